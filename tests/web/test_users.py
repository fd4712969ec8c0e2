"""Twenty people at once."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pages import ask, read_download

USERS = 20


@pytest.mark.slow
def test_each_of_twenty_users_gets_their_own_answer(address, solubility):
    import httpx

    rng = np.random.default_rng(0)
    proteins = ["".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), rng.integers(20, 200))) for _ in range(3 * USERS)]
    expected = solubility.predict(proteins)

    def use(user: int) -> list[dict[str, str]]:
        numbers = range(3 * user, 3 * user + 3)
        text = "".join(f">user{user}_{number}\n{proteins[number]}\n" for number in numbers)
        with httpx.Client(base_url=address, timeout=120) as client:
            return read_download(ask(client, "predict", text))

    with ThreadPoolExecutor(USERS) as pool:
        answers = list(pool.map(use, range(USERS)))
    for user, rows in enumerate(answers):
        assert [row["id"] for row in rows] == [f"user{user}_{number}" for number in range(3 * user, 3 * user + 3)]
        found = [float(row["probability"]) for row in rows]
        np.testing.assert_allclose(found, expected[3 * user : 3 * user + 3], rtol=1e-5)
