//! Writes `LEDGER.toml` and `docs/MATRIX.md` anew from the plan.

fn main() -> std::io::Result<()> {
    trellis_conformance::matrix::bless()
}
