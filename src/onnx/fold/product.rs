//! Products of constants.

use super::{Args, Numbers, dt, of_different_types};
use crate::error::{Result, bail};
use crate::onnx::einsum::Equation;
use crate::tensor::{Shape, Tensor, broadcast, broadcast_strides, strided_indices, strides};

/// Any number of arguments.
pub(super) fn einsum(args: &mut Args) -> Result<Numbers> {
    let Some(text) = args.node.take_string("equation")? else {
        bail!(Invalid, "attribute \"equation\" is missing");
    };
    let count = args.node.inputs.len();
    let parts: Vec<Numbers> = (0..count).map(|i| args.take(i)).collect::<Result<_>>()?;
    let shapes: Vec<&[usize]> = parts.iter().map(Numbers::shape).collect();
    let equation = Equation::new(&text, &shapes)?;
    let (shape, sums) = (equation.shape_of(&equation.result), equation.summed());
    let sums_shape = equation.shape_of(&sums);
    let work = shape.iter().chain(&sums_shape).fold(1u64, |n, &d| n.saturating_mul(d as u64));
    args.room_for(&shape, work.saturating_mul(count as u64))?;
    for _ in 0..count {
        args.room(&shape)?;
        args.room(&sums_shape)?;
    }
    // Of each argument where its element lies, for each of the result, and for each that is summed.
    let places = |labels: &[usize], axes: &Shape| -> Vec<Vec<usize>> {
        let of = |(own, shape): (&Vec<usize>, &&[usize])| {
            let steps = strides(shape);
            let step = |label: &usize| {
                let axes = own.iter().zip(shape.iter()).zip(&steps);
                axes.filter(|((l, d), _)| *l == label && **d != 1).map(|(_, step)| step).sum()
            };
            strided_indices(axes.clone(), labels.iter().map(step).collect()).collect()
        };
        equation.arguments.iter().zip(&shapes).map(of).collect()
    };
    let (outer, inner) = (places(&equation.result, &shape), places(&sums, &sums_shape));
    let (n, terms) = (shape.iter().product::<usize>(), sums_shape.iter().product::<usize>());
    let reals =
        parts.iter().map(|part| if let Numbers::Real(t) = part { Some(t.data()) } else { None });
    if let Some(reals) = reals.collect::<Option<Vec<_>>>() {
        let factor =
            |i, s| (0..count).map(|k| reals[k][outer[k][i] + inner[k][s]] as f64).product::<f64>();
        let sum = |i| (0..terms).map(|s| factor(i, s)).sum::<f64>() as f32;
        return Ok(Numbers::Real(Tensor::new(shape, (0..n).map(sum).collect())?));
    }
    let ints =
        parts.iter().map(|part| if let Numbers::Ints(t, _) = part { Some(t.data()) } else { None });
    let (Some(ints), Numbers::Ints(_, data_type)) = (ints.collect::<Option<Vec<_>>>(), &parts[0])
    else {
        return of_different_types(args);
    };
    let factor =
        |i, s| (0..count).try_fold(1i64, |p, k| p.checked_mul(ints[k][outer[k][i] + inner[k][s]]));
    let sum = |i| (0..terms).try_fold(0i64, |sum, s| sum.checked_add(factor(i, s)?));
    match (0..n).map(sum).collect() {
        Some(data) => Ok(Numbers::Ints(Tensor::new(shape, data)?, *data_type)),
        None => bail!(Invalid, "overflow in a product"),
    }
}

/// Of integers, from which zero points may be subtracted.
pub(super) fn matmul(args: &mut Args) -> Result<Numbers> {
    let with_zeros = args.op_type() == "MatMulInteger";
    let data_type = if with_zeros { dt::INT32 } else { args.types[0] };
    let [a, b] = [0, 1].map(|i| -> Result<Tensor<i64>> {
        let t = args.take_ints(i)?;
        if !args.has(i + 2) {
            return Ok(t);
        }
        // One for the tensor, or one for each row of the first, each column of the second argument.
        let mut zero = args.take_ints(i + 2)?;
        if let (0, &[rows]) = (i, zero.shape()) {
            zero = zero.reshape([rows, 1])?;
        }
        super::elementwise::zipped(args, &t, &zero, i64::checked_sub)
    });
    let (a, b) = (a?, b?);
    // A vector is a row on the left, a column on the right.
    let row = if a.shape().len() == 1 { vec![1, a.shape()[0]] } else { a.shape().to_vec() };
    let column = if b.shape().len() == 1 { vec![b.shape()[0], 1] } else { b.shape().to_vec() };
    let (&[ref lead_a @ .., m, k], &[ref lead_b @ .., rows, n]) = (&row[..], &column[..]) else {
        bail!(Shape, "a product of shapes {:?} and {:?}", a.shape(), b.shape());
    };
    if rows != k {
        bail!(Shape, "a product of shapes {:?} and {:?}", a.shape(), b.shape());
    }
    let lead = broadcast(lead_a, lead_b)?;
    let full = [&lead[..], &[m, n]].concat();
    let work = full.iter().fold(k as u64, |work, &d| work.saturating_mul(d as u64));
    let len = args.room_for(&full, work)?;
    let starts = |own: &[usize], shape: &[usize]| -> Vec<usize> {
        let steps = broadcast_strides(own, &strides(shape)[..own.len()], &lead);
        strided_indices(lead.clone(), steps).collect()
    };
    let (of_a, of_b) = (starts(lead_a, &row), starts(lead_b, &column));
    let (data_a, data_b) = (a.data(), b.data());
    let element = |i: usize| {
        let (batch, y, x) = (i / (m * n), i / n % m, i % n);
        let (a, b) = (&data_a[of_a[batch]..], &data_b[of_b[batch]..]);
        (0..k).try_fold(0i64, |sum, j| sum.checked_add(a[y * k + j].checked_mul(b[j * n + x])?))
    };
    let Some(data) = (0..len).map(element).collect() else {
        bail!(Invalid, "overflow in a product");
    };
    let mut shape = full;
    if b.shape().len() == 1 {
        shape.pop();
    }
    if a.shape().len() == 1 {
        shape.remove(lead.len());
    }
    Ok(Numbers::Ints(Tensor::new(shape, data)?, data_type))
}
