"""`eqxesm push`."""

from argparse import ArgumentParser, Namespace

from eqxesm.errors import InputError

SUMMARY = "publish a model on the Hugging Face Hub"

DESCRIPTION = """Publish a model or an encoder with its card on the Hugging Face Hub, in one commit.
What people wrote into the card stays; the figures and metadata that eqxesm writes are renewed. Log in
with 'hf auth login', or set HF_TOKEN.

  eqxesm push run/model me/solubility-esmc-300m
  eqxesm push run/model me/solubility-esmc-300m --form head --base me/esmc-300m-jax

The form full holds the whole model. The forms head and adapter take a few hundred kB: they refer to
the published encoder by commit and fingerprint, and loading them fetches that too."""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", metavar="MODEL", help="checkpoint of a model or an encoder")
    parser.add_argument("repository", metavar="REPO", help="owner/name; made if it does not exist")
    parser.add_argument("--form", choices=("full", "head", "adapter"), help="default: that of the folder")
    parser.add_argument("--base", metavar="REPO[@R]", help="the published encoder that head or adapter refer to")
    parser.add_argument("--private", action="store_true", help="make it private; a public one is refused")
    parser.add_argument("--revision", metavar="BRANCH", help="commit to this branch")
    parser.add_argument("--create-pr", action="store_true", help="open a pull request")
    parser.add_argument("--message", metavar="TEXT", help="message of the commit")


def run(options: Namespace) -> None:
    if options.base and options.form not in ("head", "adapter"):
        raise InputError("--base needs --form head or --form adapter")
    from eqxesm.publish import push_folder

    url = push_folder(
        options.folder,
        options.repository,
        form=options.form,
        base=options.base,
        private=True if options.private else None,
        revision=options.revision,
        create_pr=options.create_pr,
        commit_message=options.message,
    )
    print(url)
