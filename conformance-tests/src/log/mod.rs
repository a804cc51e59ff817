//! The family of `StreamLog`.
pub type Factory = crate::Factory<dyn trellis_engine_traits::StreamLog>;
