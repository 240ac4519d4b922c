//! The engine for C and C++. `include/naive_ptq.h` says what each function does; `docs/embedding.md` how to build and
//! to link it. [`Network`] and [`Session`] do the work, [`border`] is what C sees of them.
#![deny(unsafe_code)]

pub mod border;
mod failure;
mod network;

pub use failure::{Failure, Status};
pub use network::{Edge, Network, Session};
