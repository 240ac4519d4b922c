//! ONNX files: a float network in, a quantized one out and in again. There is no format of our own.

mod export;
mod import;
pub mod proto;
mod tensors;

#[cfg(test)]
mod tests;

pub use export::export;
pub use import::{import, load};
