"""Between ESM-C as others publish it and ESM-C as eqxesm stores it. The only place for torch."""
