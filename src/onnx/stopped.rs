//! What goes on behind a node that could not be read.

use super::fold::is_of_shapes;
use super::importer::{Importer, Known, check_size};
use super::proto::{DimensionValue, NodeProto, TensorTypeProto, data_type as dt};
use crate::graph::Value;
use crate::tensor::Shape;

impl Importer<'_> {
    /// Whether an argument of the node could not be computed.
    pub(super) fn lacks_argument(&self, node: &NodeProto) -> bool {
        node.input.iter().any(|name| matches!(self.known.get(name), Some(Known::Stopped { .. })))
    }

    /// Whether the results of a node depend on inputs, of which it sees more than the shapes.
    pub(super) fn is_computed(&self, node: &NodeProto) -> bool {
        let is_computed = |name: &String| match self.known.get(name) {
            Some(&(Known::Value(v) | Known::Codes(v, _) | Known::Index(v, _))) => {
                self.graph.values[v].constant.is_none()
            }
            Some(&Known::Stopped { computed }) => computed,
            Some(Known::List(_)) => true,
            _ => false,
        };
        !is_of_shapes(&node.op_type) && node.input.iter().any(is_computed)
    }

    /// How many elements the constant arguments of a node have.
    pub(super) fn constants_of(&self, node: &NodeProto) -> u64 {
        let len = |name: &String| match self.known.get(name) {
            Some(Known::Ints(t, _)) => t.shape().iter().product(),
            Some(Known::Narrow(t, _)) => t.shape().iter().product(),
            Some(&(Known::Value(v) | Known::Codes(v, _))) => {
                let constant = self.graph.values[v].constant.as_ref();
                constant.map_or(0, |c| c.shape().iter().product::<usize>())
            }
            _ => 0,
        };
        node.input.iter().map(|name| len(name) as u64).sum()
    }

    /// The results of a node that could not be read: of the shape that the file gives them, if it does, so that the rest
    /// of the network can be looked at.
    pub(super) fn stop(&mut self, node: &NodeProto) {
        // What is made of constants may have to be one.
        let computed = self.is_computed(node);
        for output in node.output.iter().filter(|name| !name.is_empty()) {
            if self.known.contains_key(output) {
                continue;
            }
            let declared = self.declared.get(output.as_str()).filter(|_| computed);
            let known = match declared.and_then(|declared| sizes(declared)) {
                Some(shape) if check_size(output, &shape).is_ok() => {
                    let name = self.names.fresh(output.clone());
                    Known::Value(self.add_value(Value { name, shape, ..Value::default() }))
                }
                _ => Known::Stopped { computed },
            };
            self.known.insert(output.clone(), known);
        }
    }
}

/// The sizes of real numbers, if the file tells them; an open batch is 1.
fn sizes(declared: &TensorTypeProto) -> Option<Shape> {
    let size = |(axis, value): (usize, &Option<DimensionValue>)| match value {
        &Some(DimensionValue::DimValue(d)) if d > 0 => usize::try_from(d).ok(),
        _ if axis == 0 => Some(1),
        _ => None,
    };
    let dims = &declared.shape.as_ref().filter(|_| declared.elem_type == dt::FLOAT)?.dim;
    dims.iter().map(|dim| &dim.value).enumerate().map(size).collect()
}
