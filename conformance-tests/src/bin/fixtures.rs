//! Makes the fixtures of the current format; those that are there are never written anew.

fn main() -> std::io::Result<()> {
    trellis_conformance::fixtures::make()
}
