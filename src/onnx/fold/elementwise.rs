//! Each element by itself.

use super::{Args, Numbers, dt, of_different_types, take_type};
use crate::error::{Result, bail};
use crate::tensor::{Tensor, broadcast, broadcast_strides, strided_indices, strides};

/// `f` of each pair of elements after NumPy's broadcasting rule.
pub(super) fn zipped<T: Copy, U: Copy, V>(
    args: &mut Args,
    a: &Tensor<T>,
    b: &Tensor<U>,
    f: impl Fn(T, U) -> Option<V>,
) -> Result<Tensor<V>> {
    let shape = broadcast(a.shape(), b.shape())?;
    args.room(&shape)?;
    let steps = |s: &[usize]| broadcast_strides(s, &strides(s), &shape);
    let ia = strided_indices(shape.clone(), steps(a.shape()));
    let ib = strided_indices(shape.clone(), steps(b.shape()));
    let (a, b) = (a.data(), b.data());
    match ia.zip(ib).map(|(i, j)| f(a[i], b[j])).collect() {
        Some(data) => Tensor::new(shape, data),
        None => bail!(Invalid, "overflow, or a division by zero, in shape arithmetic"),
    }
}

/// What a type of two's complement keeps of `i`.
fn wrapped(i: i64, data_type: i32) -> i64 {
    match data_type {
        dt::INT8 => i as i8 as i64,
        dt::UINT8 => i as u8 as i64,
        dt::INT16 => i as i16 as i64,
        dt::UINT16 => i as u16 as i64,
        dt::INT32 => i as i32 as i64,
        dt::UINT32 => i as u32 as i64,
        dt::BOOL => (i != 0) as i64,
        _ => i,
    }
}

/// `1 << by`, if there is such a bit.
fn bit(by: i64) -> Option<i64> {
    u32::try_from(by).ok().and_then(|by| 1i64.checked_shl(by)).filter(|&bit| bit > 0)
}

fn modulo(a: i64, b: i64) -> Option<i64> {
    a.checked_rem(b).map(|r| if r != 0 && (r < 0) != (b < 0) { r + b } else { r })
}

fn real_modulo(a: f32, b: f32) -> f32 {
    let r = a % b;
    if r != 0.0 && (r < 0.0) != (b < 0.0) { r + b } else { r }
}

/// One after the other, where there are more than two.
pub(super) fn binary(args: &mut Args) -> Result<Numbers> {
    let op_type = args.op_type();
    // The sign of a remainder is that of the dividend with fmod, of the divisor without.
    let fmod = op_type == "Mod" && args.node.take_flag("fmod")?;
    let left =
        op_type == "BitShift" && args.node.take_string("direction")?.as_deref() == Some("LEFT");
    let count = args.node.inputs.len();
    let mut result = args.take(0)?;
    for i in 1..count {
        result = match (result, args.take(i)?) {
            (Numbers::Ints(a, data_type), Numbers::Ints(b, _)) => {
                let f: fn(i64, i64) -> Option<i64> = match op_type.as_str() {
                    "Add" | "Sum" => i64::checked_add,
                    "Sub" => i64::checked_sub,
                    "Mul" => i64::checked_mul,
                    "Div" => i64::checked_div,
                    "Mod" if fmod => i64::checked_rem,
                    "Mod" => modulo,
                    "Min" => |a, b| Some(a.min(b)),
                    "Max" => |a, b| Some(a.max(b)),
                    "And" | "BitwiseAnd" => |a, b| Some(a & b),
                    "Or" | "BitwiseOr" => |a, b| Some(a | b),
                    "Xor" | "BitwiseXor" => |a, b| Some(a ^ b),
                    "BitShift" if left => |a, b| Some(bit(b).map_or(0, |bit| a.wrapping_mul(bit))),
                    "BitShift" => |a, b| Some(bit(b).map_or(a >> 63, |bit| a.div_euclid(bit))),
                    _ => bail!(Unsupported, "{op_type} of integers"),
                };
                let y = zipped(args, &a, &b, f)?;
                let bits = op_type == "BitShift";
                Numbers::Ints(if bits { y.map(|&i| wrapped(i, data_type)) } else { y }, data_type)
            }
            (Numbers::Real(a), Numbers::Real(b)) => {
                let f: fn(f32, f32) -> f32 = match op_type.as_str() {
                    "Add" | "Sum" | "Mean" => |a, b| a + b,
                    "Sub" => |a, b| a - b,
                    "Mul" => |a, b| a * b,
                    // A true division: a rounded reciprocal would make some too small to be whole.
                    "Div" => |a, b| a / b,
                    "Mod" if fmod => |a, b| a % b,
                    "Mod" => real_modulo,
                    "Min" => |a, b| if a < b || a.is_nan() { a } else { b },
                    "Max" => |a, b| if a > b || a.is_nan() { a } else { b },
                    _ => bail!(Unsupported, "{op_type} of real numbers"),
                };
                Numbers::Real(zipped(args, &a, &b, |a, b| Some(f(a, b)))?)
            }
            _ => return of_different_types(args),
        };
    }
    match result {
        Numbers::Real(t) if op_type == "Mean" => Ok(Numbers::Real(t.map(|x| x / count as f32))),
        result => Ok(result),
    }
}

fn holds<T: PartialOrd>(op_type: &str, a: T, b: T) -> i64 {
    let holds = match op_type {
        "Equal" => a == b,
        "Greater" => a > b,
        "GreaterOrEqual" => a >= b,
        "Less" => a < b,
        _ => a <= b,
    };
    holds as i64
}

pub(super) fn compare(args: &mut Args) -> Result<Numbers> {
    let op_type = args.op_type();
    let result = match (args.take(0)?, args.take(1)?) {
        (Numbers::Ints(a, _), Numbers::Ints(b, _)) => {
            zipped(args, &a, &b, |a, b| Some(holds(&op_type, a, b)))?
        }
        (Numbers::Real(a), Numbers::Real(b)) => {
            zipped(args, &a, &b, |a, b| Some(holds(&op_type, a, b)))?
        }
        _ => return of_different_types(args),
    };
    Ok(Numbers::Ints(result, dt::BOOL))
}

/// The result is of the type of the base.
pub(super) fn power(args: &mut Args) -> Result<Numbers> {
    let real = |base: f64, exponent: f64| libm::pow(base, exponent);
    Ok(match (args.take(0)?, args.take(1)?) {
        (Numbers::Real(a), Numbers::Real(b)) => {
            Numbers::Real(zipped(args, &a, &b, |a, b| Some(real(a.into(), b.into()) as f32))?)
        }
        (Numbers::Real(a), Numbers::Ints(b, _)) => {
            Numbers::Real(zipped(args, &a, &b, |a, b| Some(real(a.into(), b as f64) as f32))?)
        }
        (Numbers::Ints(a, data_type), Numbers::Ints(b, _)) => {
            let power = |a: i64, b| u32::try_from(b).ok().and_then(|b| a.checked_pow(b));
            Numbers::Ints(zipped(args, &a, &b, power)?, data_type)
        }
        (Numbers::Ints(a, data_type), Numbers::Real(b)) => {
            let power = |a: i64, b: f32| Some(real(a as f64, b.into()) as i64);
            Numbers::Ints(zipped(args, &a, &b, power)?, data_type)
        }
        _ => return of_different_types(args),
    })
}

pub(super) fn unary(args: &mut Args) -> Result<Numbers> {
    let op_type = args.op_type();
    let x = args.take(0)?;
    args.room(x.shape())?;
    Ok(match x {
        Numbers::Ints(t, data_type) => {
            let f: fn(i64) -> i64 = match op_type.as_str() {
                "Neg" => i64::saturating_neg,
                "Abs" => i64::saturating_abs,
                "Sign" => i64::signum,
                "Relu" => |i| i.max(0),
                "Not" => |i| (i == 0) as i64,
                "BitwiseNot" => |i| !i,
                _ => bail!(Unsupported, "{op_type} of integers"),
            };
            let bits = op_type == "BitwiseNot";
            Numbers::Ints(t.map(|&i| if bits { wrapped(f(i), data_type) } else { f(i) }), data_type)
        }
        Numbers::Real(t) => {
            let f: fn(f64) -> f64 = match op_type.as_str() {
                "Acos" => libm::acos,
                "Acosh" => libm::acosh,
                "Asin" => libm::asin,
                "Asinh" => libm::asinh,
                "Atanh" => libm::atanh,
                "Cosh" => libm::cosh,
                "Mish" => |x| x * libm::tanh(libm::log1p(libm::exp(x))),
                "Sinh" => libm::sinh,
                "Softsign" => |x| x / (1.0 + x.abs()),
                "Tan" => libm::tan,
                // Others reach this only where there is nothing to compute.
                _ if t.data().is_empty() => |x| x,
                _ => bail!(Unsupported, "{op_type} of real numbers"),
            };
            Numbers::Real(t.map(|&x| f(x.into()) as f32))
        }
        Numbers::Narrow(..) => return of_different_types(args),
    })
}

pub(super) fn is_no_number(args: &mut Args) -> Result<Numbers> {
    let infinity = args.op_type() == "IsInf";
    let [negative, positive] = match infinity {
        true => {
            ["detect_negative", "detect_positive"].map(|name| args.node.take_flag_or(name, true))
        }
        false => [Ok(false), Ok(false)],
    };
    let (negative, positive) = (negative?, positive?);
    let Numbers::Real(t) = args.take(0)? else { return of_different_types(args) };
    args.room(t.shape())?;
    let is_one = |x: f32| match infinity {
        true => x == f32::INFINITY && positive || x == f32::NEG_INFINITY && negative,
        false => x.is_nan(),
    };
    Ok(Numbers::Ints(t.map(|&x| is_one(x) as i64), dt::BOOL))
}

/// Of integers.
pub(super) fn clip(args: &mut Args) -> Result<Numbers> {
    let Numbers::Ints(mut t, data_type) = args.take(0)? else { return of_different_types(args) };
    for (index, bounded) in [(1, i64::max as fn(i64, i64) -> i64), (2, i64::min)] {
        if args.has(index) {
            let bound = args.take_one(index)?;
            args.room(t.shape())?;
            t = t.map(|&i| bounded(i, bound));
        }
    }
    Ok(Numbers::Ints(t, data_type))
}

/// Of three arguments the second where the first is true, else the third.
pub(super) fn select(args: &mut Args) -> Result<Numbers> {
    fn chosen<T: Copy>(
        args: &mut Args,
        condition: &Tensor<i64>,
        a: &Tensor<T>,
        b: &Tensor<T>,
    ) -> Result<Tensor<T>> {
        let pairs = zipped(args, a, b, |a, b| Some((a, b)))?;
        zipped(args, condition, &pairs, |c, (a, b)| Some(if c != 0 { a } else { b }))
    }
    let condition = args.take_ints(0)?;
    match (args.take(1)?, args.take(2)?) {
        (Numbers::Real(a), Numbers::Real(b)) => chosen(args, &condition, &a, &b).map(Numbers::Real),
        (Numbers::Ints(a, data_type), Numbers::Ints(b, _)) => {
            Ok(Numbers::Ints(chosen(args, &condition, &a, &b)?, data_type))
        }
        _ => of_different_types(args),
    }
}

/// `x` with no more than `bits` binary digits, the lowest of which counts `2^lowest` at the least; half to even.
fn rounded(x: f32, bits: i32, lowest: i32, largest: f32) -> f32 {
    if x == 0.0 || !x.is_finite() {
        return x;
    }
    let exponent = libm::ilogb(x.into());
    let unit = libm::scalbn(1.0, (exponent - bits + 1).max(lowest));
    let y = ((x as f64 / unit).round_ties_even() * unit) as f32;
    if y.abs() > largest { f32::INFINITY.copysign(x) } else { y }
}

/// `x` as a number of this type.
fn of_precision(x: f32, data_type: i32) -> f32 {
    match data_type {
        dt::FLOAT16 => rounded(x, 11, -24, 65504.0),
        dt::BFLOAT16 => rounded(x, 8, -133, f32::MAX),
        _ => x,
    }
}

/// Integers wrap, real numbers lose what is behind the point.
pub(super) fn cast(args: &mut Args) -> Result<Numbers> {
    let to = match args.op_type() == "CastLike" {
        false => take_type(args.node, "to")?,
        true => Some(match args.take(1)? {
            Numbers::Ints(_, data_type) => data_type,
            _ => dt::FLOAT,
        }),
    };
    args.node.take_flag_or("saturate", true)?; // of 8-bit floats only
    if args.node.attributes.contains_key("round_mode") {
        args.node.take_string("round_mode")?;
    }
    let Some(to) = to else { bail!(Invalid, "attribute \"to\" is missing") };
    let x = args.take(0)?;
    if let (Numbers::Real(_), dt::FLOAT | dt::DOUBLE) = (&x, to) {
        return Ok(x);
    }
    args.room(x.shape())?;
    let known = super::range(to);
    Ok(match x {
        Numbers::Real(t) if dt::is_real(to) => Numbers::Real(t.map(|&x| of_precision(x, to))),
        Numbers::Ints(t, _) if dt::is_real(to) => {
            Numbers::Real(t.map(|&i| of_precision(i as f32, to)))
        }
        Numbers::Real(t) if to == dt::BOOL => Numbers::Ints(t.map(|&x| (x != 0.0) as i64), to),
        Numbers::Real(t) if known.is_some() => Numbers::Ints(t.map(|&x| x as i64), to),
        Numbers::Ints(t, _) if known.is_some() => Numbers::Ints(t.map(|&i| wrapped(i, to)), to),
        _ => bail!(Unsupported, "a cast of constants to {}", dt::name(to)),
    })
}
