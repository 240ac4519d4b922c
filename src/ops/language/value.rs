//! Constants as data.

use crate::arith::{Multiplier, Products};

/// A constant, in any language.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number.
    Int(i64),
    /// Yes or no.
    Bool(bool),
    /// What the language calls so.
    Name(&'static str),
    /// Two of different types.
    Pair(Box<[Value; 2]>),
    /// As many as the type says.
    Array(Vec<Value>),
    /// Any number of them.
    List(Vec<Value>),
    /// What need not be there.
    Optional(Option<Box<Value>>),
    /// A struct of this name.
    Record(&'static str, Vec<Field>),
}

/// A member of a struct.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub value: Value,
}

/// What can be a constant.
pub trait ToValue {
    /// The constant.
    fn to_value(&self) -> Value;
}

macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl ToValue for $type {
            fn to_value(&self) -> Value {
                Value::Int(*self as i64)
            }
        }
    )*};
}
numbers!(i8, i16, i32, i64, u8, u32, usize);

impl ToValue for bool {
    fn to_value(&self) -> Value {
        Value::Bool(*self)
    }
}

impl<A: ToValue, B: ToValue> ToValue for (A, B) {
    fn to_value(&self) -> Value {
        Value::Pair(Box::new([self.0.to_value(), self.1.to_value()]))
    }
}

impl<T: ToValue, const N: usize> ToValue for [T; N] {
    fn to_value(&self) -> Value {
        Value::Array(self.iter().map(T::to_value).collect())
    }
}

impl<T: ToValue> ToValue for &[T] {
    fn to_value(&self) -> Value {
        Value::List(self.iter().map(T::to_value).collect())
    }
}

impl<T: ToValue> ToValue for Option<T> {
    fn to_value(&self) -> Value {
        Value::Optional(self.as_ref().map(|value| Box::new(value.to_value())))
    }
}

/// Says what a struct is as a constant, from a list of all its members.
macro_rules! record {
    ([$($generics:tt)*] $type:ty, $name:literal, $($member:ident),+ $(,)?) => {
        impl<$($generics)*> $crate::ops::language::ToValue for $type {
            fn to_value(&self) -> $crate::ops::language::Value {
                use $crate::ops::language::{Field, ToValue, Value};
                let fields = [$((stringify!($member), ToValue::to_value(&self.$member))),+];
                Value::Record($name, fields.map(|(name, value)| Field { name, value }).into())
            }
        }
    };
    ($type:ty, $name:literal, $($member:ident),+ $(,)?) => {
        record!([] $type, $name, $($member),+);
    };
}
pub(in crate::ops) use record;

record!(Multiplier, "Multiplier", significand, shift);
record!(
    [W: ToValue] Products<'_, W>, "Products",
    weight, bias, multiplier, x_zero_point, y_zero_point, clamp
);
