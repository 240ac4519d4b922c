use super::*;
use crate::ops::Op;
use crate::ops::onnx_node::Attribute;
use crate::testing::*;

/// The largest element of each window.
fn define<T: Number>(op: &Op, inputs: &[Tensor<T>]) -> Fractions<T> {
    by_image(inputs, |inputs| define_image(op, inputs))
}

fn define_image<T: Number>(op: &Op, inputs: &[Tensor<T>]) -> Fractions<T> {
    let (Op::MaxPool(MaxPool(window)), x) = (op, &inputs[0]) else { unreachable!() };
    let [rows, columns] = [0, 1].map(|axis| taps(window, axis, x.shape()[axis + 2]));
    tabulate(&[x.shape()[0], x.shape()[1], rows.len(), columns.len()], |y| {
        let inside = rows[y[2]].iter().flatten();
        let inside = inside.flat_map(|&iy| columns[y[3]].iter().flatten().map(move |&ix| [iy, ix]));
        let elements = inside.map(|[iy, ix]| at(x, &[y[0], y[1], iy, ix]));
        (elements.reduce(|a, b| if b > a { b } else { a }).unwrap(), T::from(1))
    })
}

fn pool(window: Window, x: &[usize]) -> Case {
    case(Op::MaxPool(MaxPool(window)), &[x])
}

#[test]
fn equals_the_definition() {
    let plain = Window::new;
    let mut cases = vec![
        pool(plain([1, 1]), &[1, 1, 1, 1]),
        pool(plain([3, 5]), &[2, 3, 3, 5]),
        pool(plain([2, 3]), &[1, 17, 4, 4]),
        // Sequences.
        pool(plain([1, 9]), &[2, 3, 9]),
        pool(Window { stride: [1, 2], pads: [0, 1, 0, 1], ..plain([1, 3]) }, &[1, 17, 8]),
    ];
    for ceil_mode in [false, true] {
        let window = |kernel, stride, pads| Window { stride, pads, ceil_mode, ..plain(kernel) };
        cases.extend([
            pool(window([2, 2], [2, 2], [0; 4]), &[1, 3, 5, 4]),
            pool(window([3, 3], [2, 2], [1; 4]), &[2, 17, 6, 7]),
            pool(window([2, 1], [3, 2], [0, 0, 1, 0]), &[1, 3, 7, 6]),
            pool(window([3, 2], [1, 3], [2, 0, 1, 1]), &[1, 3, 4, 8]),
            pool(
                Window { dilation: [2, 3], ..window([3, 2], [1, 2], [1, 2, 0, 1]) },
                &[1, 3, 6, 6],
            ),
        ]);
    }
    check(&cases, define, define);
}

#[test]
fn not_a_number_stays_one() {
    let x = Tensor::new([1, 1, 1, 3], vec![1.0, f32::NAN, 2.0]).unwrap();
    let y = MaxPool(Window::new([1, 2])).eval_f32(&[&x]);
    assert!(y.data().iter().all(|y| y.is_nan()));
}

#[test]
fn attributes_that_are_not_known_are_refused() {
    let node = |name: &str, value: Attribute| {
        let kernel = ("kernel_shape", ints(&[2, 2]));
        onnx_node("MaxPool", &[&[1, 3, 8, 8]], &[kernel, (name, value)])
    };
    check_refusals([
        (onnx_node("MaxPool", &[&[1, 3, 8, 8]], &[]), "kernel_shape"),
        (onnx_node("MaxPool", &[&[1, 3, 8, 8, 8]], &[]), "only 1-D and 2-D are known"),
        (node("storage_order", Attribute::Int(1)), "storage_order"),
        (node("ceil_mode", Attribute::Int(-1)), "ceil_mode"),
        (node("auto_pad", Attribute::String("FULL".into())), "auto_pad"),
    ]);
}
