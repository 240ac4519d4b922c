//! ONNX files: a float network in, a quantized one out and in again. There is no format of our own.

mod cut;
mod decompose;
mod einsum;
mod export;
mod external;
mod fold;
mod import;
mod importer;
pub mod proto;
mod quantized;
mod reader;
mod rounded;
pub mod signature;
mod tensors;

#[cfg(test)]
mod tests;

pub use export::export;
pub use import::{
    PREPROCESS, RAW_INPUT, import, import_with, imported_types, load, load_with, metadata,
    unknown_types,
};
pub use importer::{ImportOptions, InputShapes};
