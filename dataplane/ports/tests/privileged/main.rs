//! TAPs, network namespaces and their cleaning up, on a real kernel.
//!
//! These tests need root, `/dev/net/tun` and iproute2. Without them each says loudly that it was
//! skipped, and passes; with `CI=true` or `TIERLAB_REQUIRE_PRIVILEGED=1` it fails instead.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod cleanup;
mod frames;
mod interfaces;
mod lab;
