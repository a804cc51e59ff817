//! Trellis: a realtime JSON data platform grafted onto the storage one chooses.
