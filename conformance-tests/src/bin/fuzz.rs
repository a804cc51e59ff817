//! Runs one fuzz target over the files that are named: `fuzz wire input-1 input-2`.

use std::process::ExitCode;

use trellis_conformance::fuzzing;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(target) = arguments.next() else {
        let names: Vec<_> = fuzzing::TARGETS.iter().map(|target| target.name).collect();
        eprintln!("usage: fuzz TARGET FILE...\ntargets: {}", names.join(", "));
        return ExitCode::from(2);
    };
    for file in arguments {
        match std::fs::read(&file) {
            Ok(input) => fuzzing::run(&target, &input),
            Err(error) => {
                eprintln!("{file}: {error}");
                return ExitCode::FAILURE;
            }
        }
        println!("{file}: fine");
    }
    ExitCode::SUCCESS
}
