//! Clock, randomness, and the bridge between async callers and blocking engines.
