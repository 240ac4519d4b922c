//! How C writes numbers, types and names.

use super::super::list;
use super::named;
use crate::ops::language::Value;
use crate::ops::language::c::{Element, Types};
use crate::quant::Width;

/// A constant as an initializer.
pub(super) fn initializer(value: &Value) -> String {
    match value {
        Value::Int(number) if i32::try_from(*number).is_ok() => number.to_string(),
        Value::Int(number) => format!("INT64_C({number})"),
        Value::Bool(yes) => (*yes as i32).to_string(),
        Value::Name(name) => format!("NAIVE_PTQ_{name}"),
        Value::Pair(pair) => format!("{{{}, {}}}", initializer(&pair[0]), initializer(&pair[1])),
        Value::Array(items) | Value::List(items) => {
            format!("{{{}}}", list(items.iter().map(initializer)))
        }
        Value::Optional(None) => "NULL".into(),
        Value::Optional(Some(value)) => initializer(value),
        Value::Record(_, fields) => {
            format!("{{{}}}", list(fields.iter().map(|field| initializer(&field.value))))
        }
    }
}

/// Items of an array of `of`: all numbers have its type.
fn item(value: &Value, of: Element) -> String {
    match (value, of) {
        (Value::Int(number), Element::U32) => number.to_string(),
        _ => initializer(value),
    }
}

/// An array of constants.
pub(super) fn declaration(
    network: &str,
    name: &str,
    of: Element,
    types: Types,
    items: &[Value],
) -> String {
    let items = list(items.iter().map(|value| item(value, of)));
    // Aligned, because some code reads several weights as one word.
    let align = if of == Element::Weight { "NAIVE_PTQ_ALIGNED " } else { "" };
    let section = named("@NAME_CONST_SECTION", network, &[]);
    let of = c_type(of, types);
    format!("{align}{section} static const {of} {name}[] = {{\n    {items}\n}};\n")
}

/// The type of an element.
pub(super) fn c_type(of: Element, types: Types) -> String {
    match of {
        Element::Code => code(types.y),
        Element::Weight => format!("int{}_t", 8 * types.weights.bytes()),
        Element::Acc => format!("int{}_t", types.acc_bits()),
        Element::U8 => "uint8_t".into(),
        Element::I32 => "int32_t".into(),
        Element::U32 => "uint32_t".into(),
        Element::Multiplier => "struct multiplier".into(),
        Element::Struct(name, _) => format!("struct {}", typed(name, types)),
    }
}

/// What `T` of `arith.h` makes of `name`.
pub(super) fn typed(name: &str, types: Types) -> String {
    format!("{name}_{}_{}_{}_{}", types.x, types.y, types.weights, types.acc_bits())
}

/// Bytes of an element.
pub(super) fn bytes(of: Element, types: Types) -> usize {
    match of {
        Element::Code => types.y.bytes(),
        Element::Weight => types.weights.bytes(),
        Element::Acc => types.acc_bits() / 8,
        Element::U8 => 1,
        Element::I32 | Element::U32 => 4,
        Element::Multiplier => 8,
        Element::Struct(_, bytes) => bytes,
    }
}

/// The type of codes of this width.
pub(super) fn code(width: Width) -> String {
    format!("int{width}_t")
}

/// Members of a struct in the order of its declaration: those of a struct within it, as `product.depth`, and of an
/// array, as `strides[0]`, in braces of their own, which C++ takes, too.
pub(super) fn nested(members: &[(&str, String)], indent: &str) -> String {
    let head = |name: &str| name.find(['.', '[']).map_or(name.len(), |end| end);
    let of = |(name, _): &(&str, String)| name[..head(name)].to_owned();
    let mut text = String::new();
    for alike in members.chunk_by(|a, b| of(a) == of(b)) {
        let (name, value) = &alike[0];
        let first = head(name);
        let inner = alike.iter().map(|(name, value)| (&name[first..], value));
        text += &match name[first..].chars().next() {
            None => format!("{indent}.{name} = {value},\n"),
            Some('[') => {
                let items: Vec<&str> = inner.map(|(_, value)| &**value).collect();
                format!("{indent}.{} = {{{}}},\n", &name[..first], items.join(", "))
            }
            Some(_) => {
                let inner: Vec<_> =
                    inner.map(|(name, value)| (&name[1..], value.clone())).collect();
                let inner = nested(&inner, &format!("{indent}    "));
                format!("{indent}.{} = {{\n{inner}{indent}}},\n", &name[..first])
            }
        };
    }
    text
}

/// A name between the quotes of a string: what is no ASCII is spelled in octal, as UTF-8.
pub(super) fn quoted(name: &str) -> String {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' | b'?' => format!("\\{}", byte as char),
        b' '..=b'~' => (byte as char).to_string(),
        _ => format!("\\{byte:03o}"),
    };
    name.bytes().map(escaped).collect()
}

/// Twenty numbers in a line.
pub(super) fn lines(numbers: &[String]) -> String {
    numbers.chunks(20).map(|line| line.join(",")).collect::<Vec<_>>().join(",\n     ")
}
