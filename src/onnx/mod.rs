//! ONNX files: a float network in, a quantized one out and in again. There is no format of our own.

mod batch;
mod classes;
mod control;
mod cut;
mod declared;
mod decompose;
mod einsum;
mod export;
mod external;
mod fold;
mod import;
mod importer;
mod obstacles;
pub mod proto;
mod qonnx;
mod quantized;
mod reader;
mod rounded;
pub mod signature;
mod stopped;
mod tensors;

#[cfg(test)]
mod tests;

pub use classes::classes;
pub use export::export;
pub use import::{
    PREPROCESS, RAW_INPUT, import, import_with, imported_types, load, load_with, metadata,
};
pub use importer::{ImportOptions, InputShapes};
