//! Post-training quantization of ONNX networks to integers.
//!
//! ```text
//!  float.onnx ──import──► Graph ──passes──► Graph ──calibrate──► ranges
//!                        (real)  fold,     (real)   data streams,   │
//!                                fuse               not stored      ▼
//!  int8.onnx ◄──export── quantized Graph ◄───────── quantize ───────┘
//!     │   (QDQ)                │
//!     └──────import────────────┤   a quantized model from elsewhere enters here, too
//!                              └──lower──► IntGraph ──► exec
//! ```
//!
//! | stage | module | from → to |
//! |---|---|---|
//! | import, export | [`onnx`] | ONNX file ↔ [`graph::Graph`] |
//! | passes | [`passes`] | `Graph` → `Graph`, fewer nodes |
//! | calibrate | [`calibrate`] | `Graph`, samples → [`calibrate::Observer`], which can be merged → ranges |
//! | quantize | [`quantize`](mod@quantize) | `Graph`, ranges or `Observer`, [`quant::Scheme`] → [`quantize::Params`] → quantized `Graph` |
//! | lower | [`lower`](mod@lower) | quantized `Graph` → [`lower::IntGraph`] |
//! | run | [`exec`] | either graph, samples → results |
//! | judge | [`analyze`] | results → accuracy, noise |
//!
//! Below them: [`arith`], the integer arithmetic; [`ops`], the operators; [`quant`], scales and zero
//! points; [`tensor`], [`kernels`], [`error`] and [`text`]. Beside them: [`data`], which reads samples.
//! `docs/semantics.md` says what every operator computes, to the bit. [`model::Model::load`] takes a file
//! of either kind, quantized here or elsewhere, to where it can be run.
//!
//! The whole pipeline, on the bundled network:
//!
//! ```
//! use naive_ptq::calibrate::{Calibrator, Observer};
//! use naive_ptq::data::{Dataset, Preprocess};
//! use naive_ptq::exec::{float::FloatExecutor, int::IntExecutor};
//! use naive_ptq::quant::{Preset, Scheme};
//! use naive_ptq::{lower::lower, onnx, passes, quantize::quantize_corrected};
//!
//! # fn main() -> naive_ptq::Result<()> {
//! let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fashion");
//! let preprocess = Preprocess { scale: 1.0 / 255.0, ..Preprocess::default() };
//! let data = Dataset::open(folder.join("calib.npz"), &preprocess)?;
//!
//! let mut graph = onnx::load(&folder.join("float.onnx"))?;
//! passes::prepare(&mut graph);
//!
//! let float = FloatExecutor::new(&graph);
//! let mut observer = Observer::new(&graph);
//! for i in 0..20 {
//!     float.run(&[data.sample(i)?], |v, x| observer.see(v, x))?;
//! }
//! let scheme = Scheme::new(Preset::Scale, true);
//! let calibrator = Calibrator::Percentile(99.99);
//! let quantized = quantize_corrected(&graph, &observer, calibrator, scheme)?;
//! let file: Vec<u8> = onnx::export(&quantized);
//!
//! let integer = lower(&quantized)?;
//! let run = IntExecutor::new(&integer);
//! let codes = run.run_codes(&[data.sample(0)?], |_, _| Ok(()))?;
//! assert_eq!(codes[0].shape(), [1, 10]);
//!
//! // Nothing but the file is needed to get the same integers.
//! let mut again = onnx::import(&file, None)?;
//! passes::prepare(&mut again);
//! assert_eq!(lower(&again)?, integer);
//! # Ok(())
//! # }
//! ```
#![deny(unsafe_code)]

pub mod analyze;
pub mod arith;
pub mod calibrate;
pub mod codes;
pub mod compare;
pub mod data;
pub mod emit;
pub mod error;
pub mod exec;
pub mod graph;
pub mod kernels;
pub mod lower;
pub mod memory;
pub mod model;
pub mod onnx;
pub mod ops;
pub mod passes;
pub mod quant;
pub mod quantize;
pub mod tensor;
#[cfg(test)]
pub(crate) mod testing;
pub mod text;

pub use data::{Dataset, Preprocess};
pub use error::{Error, Result};
pub use quantize::Quantizer;
pub use tensor::Tensor;
