//! Post-training quantization of ONNX networks to integers.
#![deny(unsafe_code)]

pub mod analyze;
pub mod arith;
pub mod calibrate;
pub mod data;
pub mod error;
pub mod exec;
pub mod graph;
pub mod kernels;
pub mod lower;
pub mod onnx;
pub mod ops;
pub mod passes;
pub mod quant;
pub mod quantize;
pub mod tensor;

pub use error::{Error, Result};
pub use tensor::Tensor;
