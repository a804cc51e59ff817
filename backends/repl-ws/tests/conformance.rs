//! The promises of `Replicator` over WebSockets, behind a real server.

use trellis_conformance::{matrix, repl};

#[test]
fn conforms() {
    let _shown = repl::suite(&matrix::ws_repl());
}
