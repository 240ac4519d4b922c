//! One page that shows what quantization has cost, where and why: [`Report`] has the facts, [`Report::html`] prints them.
//!
//! The page is written here, as HTML and SVG: it needs no program where it is read, and is on paper what it is on a screen.
//! What opens is a `<details>`, and languages and colours are chosen by rules of its style. Every number in it stands in an
//! element that has the whole of it, as `--json` prints it, so that a test can compare the two.

mod collect;
mod explorer;
mod facts;
mod html;
mod page;
mod pixels;
mod remedy;
pub mod svg;

pub use facts::*;
pub use html::Number;
pub use pixels::Picture;
