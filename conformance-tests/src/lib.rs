//! The conformance suite for engines and services.
