//! What chooses between parts of a network, and lists of values: both are resolved while the file is read.

use std::borrow::Cow;

use super::external::Folder;
use super::importer::{Importer, Known};
use super::proto::{AttributeProto, NodeProto, attribute_type as at, data_type as dt};
use super::tensors::Numbers;
use crate::error::{Result, bail};
use crate::ops::OnnxNode;
use crate::tensor::Tensor;

/// Operator types that work on lists of values.
pub(super) const OF_LISTS: &[&str] =
    &["ConcatFromSequence", "SequenceAt", "SequenceConstruct", "SequenceLength", "SplitToSequence"];

impl<'a> Importer<'a> {
    /// Reads the branch that a constant condition chooses.
    pub(super) fn branch(&mut self, proto: &'a NodeProto) -> Result<()> {
        let condition = match proto.input.first().map(|name| self.get(name)).transpose()? {
            Some(Known::Ints(t, _)) if t.data().len() == 1 => t.data()[0] != 0,
            _ => bail!(Unsupported, "a condition that is no constant"),
        };
        let wanted = if condition { "then_branch" } else { "else_branch" };
        let known = |name: &str| matches!(name, "then_branch" | "else_branch");
        if let Some(other) = proto.attribute.iter().find(|a| !known(&a.name)) {
            bail!(Unsupported, "attribute \"{}\"", other.name);
        }
        let branch = proto.attribute.iter().find(|a| a.name == wanted);
        let Some(branch) = branch.and_then(|a| a.g.as_deref()) else {
            bail!(Invalid, "attribute \"{wanted}\" is missing");
        };
        if branch.output.len() != proto.output.len() {
            bail!(
                Invalid,
                "{} outputs, of \"{wanted}\" {}",
                proto.output.len(),
                branch.output.len()
            );
        }
        for tensor in &branch.initializer {
            let numbers = Numbers::read(tensor.clone(), &mut Folder::none())?;
            self.define_stored(&tensor.name, numbers)?;
        }
        let read = branch.node.iter().flat_map(|n| &n.input);
        self.read.extend(read.chain(branch.output.iter().map(|o| &o.name)).map(Cow::from));
        self.nodes(&branch.node);
        for (inside, outside) in branch.output.iter().zip(&proto.output) {
            if !outside.is_empty() {
                self.alias(&inside.name, outside)?;
            }
        }
        Ok(())
    }

    /// A node of one of the types [`OF_LISTS`].
    pub(super) fn list(&mut self, proto: &NodeProto, mut node: OnnxNode) -> Result<()> {
        let output = &proto.output[0];
        match proto.op_type.as_str() {
            "SequenceConstruct" => {
                let all = proto.input.iter().map(|name| self.get(name).cloned());
                let all = all.collect::<Result<Vec<_>>>()?;
                if all.iter().any(|known| matches!(known, Known::List(_))) {
                    bail!(Unsupported, "a sequence of sequences");
                }
                self.define(output, Known::List(all))
            }
            "SequenceLength" => {
                let count = self.items(proto)?.len() as i64;
                self.define_constant(
                    output,
                    Numbers::Ints(Tensor::new([], vec![count])?, dt::INT64),
                )
            }
            "SequenceAt" => {
                let all = self.items(proto)?;
                let Some(&[i]) = node.take_input_ints(1)?.as_deref() else {
                    bail!(Invalid, "expected one position");
                };
                let from_front = if i < 0 { i.saturating_add(all.len() as i64) } else { i };
                let item = usize::try_from(from_front).ok().and_then(|i| all.get(i));
                let Some(item) = item.cloned() else {
                    bail!(Invalid, "position {i} of a sequence of {}", all.len());
                };
                let name = self.fresh(output);
                self.define(&name, item)?;
                self.alias(&name, output)
            }
            "SplitToSequence" => self.split_to_list(proto, &mut node),
            _ => {
                let Some(axis) = node.take_int("axis")? else {
                    bail!(Invalid, "attribute \"axis\" is missing");
                };
                let new_axis = node.take_flag("new_axis")?;
                let mut names = Vec::new();
                for item in self.items(proto)? {
                    let name = self.fresh(output);
                    self.define(&name, item)?;
                    names.push(match new_axis {
                        true => self.at_axis("Unsqueeze", name, axis)?,
                        false => name,
                    });
                }
                let concat = NodeProto {
                    name: proto.name.clone(),
                    attribute: vec![int_attribute("axis", axis)],
                    ..made("Concat", names, vec![output.clone()])
                };
                self.computed(&concat, output, false)
            }
        }
    }

    /// What the first argument holds.
    fn items(&self, proto: &NodeProto) -> Result<Vec<Known>> {
        match proto.input.first().map(|name| self.get(name)).transpose()? {
            Some(Known::List(all)) => Ok(all.clone()),
            _ => bail!(Invalid, "input 0 is no sequence"),
        }
    }

    /// A name that nothing has.
    fn fresh(&mut self, like: &str) -> String {
        loop {
            let name = self.names.fresh(format!("{like}.item"));
            if !self.known.contains_key(&name) {
                return name;
            }
        }
    }

    /// A list of integers as an argument, and as an attribute of versions before 13.
    fn with_list(&mut self, mut proto: NodeProto, name: &str, list: Vec<i64>) -> Result<NodeProto> {
        if self.opset < 13 {
            proto.attribute.push(ints_attribute(name, list));
            return Ok(proto);
        }
        let argument = self.fresh(&proto.output[0].clone());
        self.define_constant(&argument, Numbers::Ints(Tensor::from_vec(list), dt::INT64))?;
        proto.input.push(argument);
        Ok(proto)
    }

    /// The name of what Squeeze or Unsqueeze makes of `x` at one axis.
    fn at_axis(&mut self, op_type: &str, x: String, axis: i64) -> Result<String> {
        let output = self.fresh(&x);
        let proto = made(op_type, vec![x], vec![output.clone()]);
        let proto = self.with_list(proto, "axes", vec![axis])?;
        self.computed(&proto, &output, false)?;
        Ok(output)
    }

    fn split_to_list(&mut self, proto: &NodeProto, node: &mut OnnxNode) -> Result<()> {
        let shape = node.input_shape(0)?.to_vec();
        let named = node.take_int("axis")?.unwrap_or(0);
        let axis = OnnxNode::axis(named, shape.len())?;
        let Some(&size) = shape.get(axis) else { bail!(Shape, "axis {axis} of shape {shape:?}") };
        let keep = node.take_flag_or("keepdims", true)?;
        let one_for_all = node.input_shape(1).is_ok_and(<[usize]>::is_empty);
        let given = node.take_input_ints(1)?;
        let chunk = match given.as_deref() {
            None => 1,
            Some(&[chunk]) if one_for_all && chunk > 0 => chunk,
            Some(_) => size.max(1) as i64,
        };
        // Each part is a node, and has a name.
        self.folding.take(&[size.div_ceil(chunk as usize), 64], 0)?;
        let sizes: Vec<i64> = match given {
            Some(list) if !one_for_all => list,
            _ => {
                let starts = (0..size as i64).step_by(chunk as usize);
                starts.map(|start| chunk.min(size as i64 - start)).collect()
            }
        };
        let keep = keep || proto.input.len() > 1;
        let names: Vec<String> = sizes.iter().map(|_| self.fresh(&proto.output[0])).collect();
        self.read.extend(names.iter().cloned().map(Cow::from));
        let split = NodeProto {
            attribute: vec![int_attribute("axis", axis as i64)],
            ..made("Split", vec![proto.input[0].clone()], names.clone())
        };
        let split = self.with_list(split, "split", sizes)?;
        self.computed(&split, &proto.output[0], false)?;
        let mut all = Vec::new();
        for name in names {
            let name = if keep { name } else { self.at_axis("Squeeze", name, axis as i64)? };
            all.push(self.get(&name)?.clone());
        }
        self.define(&proto.output[0], Known::List(all))
    }
}

fn made(op_type: &str, input: Vec<String>, output: Vec<String>) -> NodeProto {
    NodeProto { op_type: op_type.into(), input, output, ..NodeProto::default() }
}

fn int_attribute(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: at::INT, i: Some(i), ..AttributeProto::default() }
}

fn ints_attribute(name: &str, ints: Vec<i64>) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: at::INTS, ints, ..AttributeProto::default() }
}
