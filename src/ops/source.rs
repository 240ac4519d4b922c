//! The constants of a node as source text, C99 or Rust, and the files with the code that reads them.

use std::fmt::Write;

use crate::arith::{Multiplier, Products};
use crate::quant::Width;

/// The code of one operator: its integer reference, and the twin of that in C99.
#[derive(Debug, PartialEq)]
pub struct Kernel {
    /// Name of the files, and of the operator's folder.
    pub name: &'static str,
    /// `no_std` Rust.
    pub rust: &'static str,
    /// C99.
    pub c: &'static str,
    /// Whether the C code is built on `kernels/product.c`.
    pub products: bool,
}

/// The [`Kernel`] in the folder of the caller.
macro_rules! kernel {
    ($name:literal, products: $products:literal) => {
        $crate::ops::source::Kernel {
            name: $name,
            rust: include_str!("int.rs"),
            c: include_str!(concat!($name, ".c")),
            products: $products,
        }
    };
    ($name:literal) => {
        kernel!($name, products: false)
    };
}
pub(super) use kernel;

/// A number or a list of them in C.
pub trait C {
    /// As an initializer.
    fn c(&self) -> String;
}

macro_rules! plain_in_c {
    ($($type:ty),*) => {$(
        impl C for $type {
            fn c(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
plain_in_c!(i8, i16, i32, u8, u32, usize);

impl C for bool {
    fn c(&self) -> String {
        (*self as i32).to_string()
    }
}

impl C for i64 {
    fn c(&self) -> String {
        if i32::try_from(*self).is_ok() { self.to_string() } else { format!("INT64_C({self})") }
    }
}

impl C for Multiplier {
    fn c(&self) -> String {
        format!("{{{}, {}}}", self.significand, self.shift)
    }
}

impl<A: C, B: C> C for (A, B) {
    fn c(&self) -> String {
        format!("{{{}, {}}}", self.0.c(), self.1.c())
    }
}

impl<T: C, const N: usize> C for [T; N] {
    fn c(&self) -> String {
        format!("{{{}}}", list(self.iter().map(C::c)))
    }
}

/// `items` in lines of at most 100 columns.
fn list(items: impl Iterator<Item = String>) -> String {
    let (mut text, mut column) = (String::new(), 0);
    for (i, item) in items.enumerate() {
        if i > 0 {
            let end = column + item.len() > 96;
            text += if end { ",\n    " } else { ", " };
            column = if end { 4 } else { column + 2 };
        }
        column += item.len();
        text += &item;
    }
    text
}

/// What one node adds to the C file: constants, and calls of kernels.
#[derive(Debug, Default)]
pub struct CNode {
    /// What the names of all constants begin with.
    pub name: String,
    /// Width of activations.
    pub width: Width,
    /// Width of weights.
    pub weight_width: Width,
    /// Whether accumulators have 64 bits.
    pub wide: bool,
    /// Number of elements of the result.
    pub size: usize,
    /// Declarations of constants.
    pub constants: String,
    /// Bytes of flash that they take.
    pub bytes: usize,
    /// Kernel, its constants, and the one argument it takes, if it does not take all of the node's.
    pub calls: Vec<(&'static str, String, Option<usize>)>,
    /// Members of the constants of the next call.
    pub fields: String,
}

impl CNode {
    /// One number, or a short list of them, as a member of the constants of the next call.
    pub fn value(&mut self, member: &str, value: impl C) -> &mut Self {
        self.text(member, &value.c())
    }

    /// As [`value`](Self::value), with an expression in C.
    pub fn text(&mut self, member: &str, value: &str) -> &mut Self {
        let _ = writeln!(self.fields, "    .{member} = {value},");
        self
    }

    /// A list of its own, to which a member points.
    pub fn array<T: C>(
        &mut self,
        member: &str,
        of: &str,
        items: impl IntoIterator<Item = T>,
    ) -> &mut Self {
        let call = if self.calls.is_empty() { "".into() } else { format!("_{}", self.calls.len()) };
        let member_name = member.replace(['.', '['], "_").replace(']', "");
        let name = format!("{}{call}_{member_name}", self.name);
        let items: Vec<String> = items.into_iter().map(|item| item.c()).collect();
        self.bytes += items.len()
            * match of {
                "weight_t" => self.weight_width.bytes(),
                "code_t" => self.width.bytes(),
                "acc_t" if self.wide => 8,
                "uint8_t" => 1,
                "struct multiplier" => 8,
                "struct between" => 12,
                _ => 4,
            };
        let items = list(items.into_iter());
        // Aligned, because some kernels read several codes as one word.
        let align = if of == "weight_t" { "ALIGNED " } else { "" };
        let _ =
            writeln!(self.constants, "{align}static const {of} {name}[] = {{\n    {items}\n}};");
        self.text(member, &name)
    }

    /// Shape, or strides; one axis at least.
    pub fn sizes(&mut self, member: &str, sizes: &[usize]) -> &mut Self {
        self.array(member, "int32_t", if sizes.is_empty() { &[1] } else { sizes }.iter().copied())
    }

    /// Code that several layers share reads the members of the next call through a pointer, so that they
    /// take flash, too: `bytes` on a 32-bit processor. Of others nothing is left when they are folded.
    pub fn read_by_shared_code(&mut self, bytes: usize) -> &mut Self {
        self.bytes += bytes;
        self
    }

    /// Ends the constants of a call of `kernel`, whose type has the same name.
    pub fn call(&mut self, kernel: &'static str, argument: Option<usize>) {
        let name = match argument {
            Some(argument) => format!("{}_{argument}", self.name),
            None => self.name.clone(),
        };
        let fields = std::mem::take(&mut self.fields);
        let _ = writeln!(self.constants, "static const struct {kernel} {name} = {{\n{fields}}};");
        self.calls.push((kernel, name, argument));
    }
}

/// A constant in Rust.
pub trait Rust {
    /// As an expression.
    fn rust(&self) -> String;
}

macro_rules! plain_in_rust {
    ($($type:ty),*) => {$(
        impl Rust for $type {
            fn rust(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
plain_in_rust!(i8, i16, i32, i64, u32, usize, bool);

impl<A: Rust, B: Rust> Rust for (A, B) {
    fn rust(&self) -> String {
        format!("({}, {})", self.0.rust(), self.1.rust())
    }
}

impl<T: Rust, const N: usize> Rust for [T; N] {
    fn rust(&self) -> String {
        format!("[{}]", list(self.iter().map(Rust::rust)))
    }
}

impl<T: Rust> Rust for &[T] {
    fn rust(&self) -> String {
        format!("&[{}]", list(self.iter().map(Rust::rust)))
    }
}

impl<T: Rust> Rust for Option<T> {
    fn rust(&self) -> String {
        self.as_ref().map_or("None".into(), |value| format!("Some({})", value.rust()))
    }
}

/// Says how a struct is written, from a list of all its members.
macro_rules! struct_in_rust {
    ([$($generics:tt)*] $type:ty, $name:literal, $($member:ident),+ $(,)?) => {
        impl<$($generics)*> $crate::ops::source::Rust for $type {
            fn rust(&self) -> String {
                let members =
                    [$((stringify!($member), $crate::ops::source::Rust::rust(&self.$member))),+];
                let members = members.map(|(name, value)| format!("    {name}: {value},\n"));
                format!("{} {{\n{}}}", $name, members.concat())
            }
        }
    };
    ($type:ty, $name:literal, $($member:ident),+ $(,)?) => {
        struct_in_rust!([] $type, $name, $($member),+);
    };
}
pub(super) use struct_in_rust;

impl Rust for Multiplier {
    fn rust(&self) -> String {
        format!("Multiplier {{ significand: {}, shift: {} }}", self.significand, self.shift)
    }
}

struct_in_rust!(
    [W: Rust] Products<'_, W>, "Products",
    weight, bias, multiplier, x_zero_point, y_zero_point, clamp
);

/// What one node adds to the Rust file.
#[derive(Debug, Default)]
pub struct RustNode {
    /// What the names of all constants begin with.
    pub name: String,
    /// Type of the codes of activations.
    pub code: &'static str,
    /// Definitions of constants.
    pub constants: String,
    /// Kernels with the arguments that come after those of the node, and the one argument, if not all.
    pub calls: Vec<(String, String, Option<usize>)>,
}

impl RustNode {
    /// Adds a constant of type `of`, and returns its name.
    pub fn constant(&mut self, suffix: &str, of: &str, value: &impl Rust) -> String {
        let name = format!("{}{suffix}", self.name);
        let _ = writeln!(self.constants, "const {name}: {of} = {};", value.rust());
        name
    }

    /// A call of `kernel(argument, …, more, y)`.
    pub fn call(&mut self, kernel: impl Into<String>, more: String, argument: Option<usize>) {
        self.calls.push((kernel.into(), more, argument));
    }
}
