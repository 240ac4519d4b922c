//! Post-training quantization of ONNX networks to integers.
//!
//! ```text
//!  float.onnx ──import──► Graph ──passes──► Graph ──observe──► statistics ──choose──► Params ──apply─┐
//!                        (real)  fold,     (real)  samples    mergeable       ▲                     │
//!                                fuse              streamed                   └ steps               ▼
//!  int8.onnx ◄──export── quantized Graph ◄───────────────────────────────────────────────────────────┘
//!     │   (QDQ)                │
//!     └──────import────────────┤   a quantized model from elsewhere enters here, too
//!                              └──lower──► IntGraph ──► engine, C, Rust
//! ```
//!
//! | what to do | with |
//! |---|---|
//! | from a float file to a quantized one | [`Quantizer`]; [`Scheme`] and [`Calibrator`] are its choices, [`quantize::Step`]s its improvements |
//! | find the widths that a goal or a limit of memory wants | [`tune`](mod@tune) |
//! | take any model file to where it runs, and judge it | [`Model`], [`Executor`], [`Evaluation`] |
//! | run an integer network fast | [`Engine`] |
//! | see what a file holds and who can run it | [`Inspection`] |
//! | bring data | [`Dataset`], or anything that is [`Samples`] |
//! | write source code for other machines | [`emit`] |
//! | prove that all of them compute the same | [`compare`] |
//!
//! The stages, one by one: [`graph`], the network; [`calibrate`], ranges from data; [`quant`], scales and
//! zero points; [`quantize`](mod@quantize), parameters and codes; [`exec`], what runs. `docs/semantics.md`
//! says what every operator computes, to the bit. [`naive_conv`] is all of it on one convolution.
//!
//! The whole pipeline, on the bundled network:
//!
//! ```
//! use naive_ptq::{Dataset, Model, Preprocess, Quantizer, Workers};
//!
//! # fn main() -> naive_ptq::Result<()> {
//! let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fashion");
//! let preprocess = Preprocess { scale: 1.0 / 255.0, ..Preprocess::default() };
//! let [calib, test] = ["calib.npz", "test.npz"].map(|name| folder.join(name));
//! let calib = Dataset::open(calib, &preprocess)?.take(20);
//! let test = Dataset::open(test, &preprocess)?.take(20);
//!
//! let float = folder.join("float.onnx");
//! let quantized = Quantizer::new(&float)?.calibrate(&calib)?.quantize()?;
//! # let int8 = std::env::temp_dir().join(format!("naive_ptq_{}.onnx", std::process::id()));
//! quantized.write(&int8)?;
//!
//! // Nothing but the file is needed to get the same integers.
//! let model = Model::load(&int8)?;
//! assert_eq!(model, Model::Int(quantized.integer));
//! let judged = model.evaluate(Some(&Model::load(&float)?), &test, Workers::default())?;
//! assert!(judged.agreement > Some(0.8));
//! # std::fs::remove_file(&int8)?;
//! # Ok(())
//! # }
//! ```
#![deny(unsafe_code)]

pub mod analyze;
pub mod calibrate;
pub mod compare;
pub mod data;
pub mod emit;
pub mod error;
pub mod exec;
pub mod graph;
pub mod model;
pub mod naive_conv;
pub mod quant;
pub mod quantize;
pub mod report;
pub mod tensor;
pub mod tune;

// What the program and the tests need besides: no promise that it stays.
#[doc(hidden)]
pub mod codes;
#[doc(hidden)]
pub mod kernels;
#[doc(hidden)]
pub mod lower;
#[doc(hidden)]
pub mod onnx;
#[doc(hidden)]
pub mod ops;
#[doc(hidden)]
pub mod passes;
#[doc(hidden)]
pub mod text;

pub(crate) mod arith;
pub(crate) mod memory;
#[cfg(test)]
pub(crate) mod testing;

pub use analyze::{Evaluation, Inspection};
pub use calibrate::{Calibrator, Observer};
pub use data::{Dataset, Preprocess, Samples, Workers};
pub use error::{Error, Result};
pub use exec::engine::Engine;
pub use model::{Executor, Model};
pub use quant::{Preset, Scheme, Width};
pub use quantize::{Quantized, Quantizer, Summary};
pub use report::Report;
pub use tensor::Tensor;
