//! What tests of several rooms need.

pub(crate) mod fake_nvml;
pub(crate) mod webhook;
