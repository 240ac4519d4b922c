//! The outputs of the reference.

use std::sync::Mutex;

use @NAME::{INPUT_SIZE, Net, OUTPUT_SIZE};

static INPUTS: [[@CODE; INPUT_SIZE]; @COUNT] = [
@INPUTS
];
static OUTPUTS: [[@CODE; OUTPUT_SIZE]; @COUNT] = [
@OUTPUTS
];

#[test]
fn outputs_are_those_of_the_reference() {
    // Too large for the stack of a thread, perhaps.
    static NET: Mutex<Net> = Mutex::new(Net::new());
    static OUTPUT: Mutex<[@CODE; OUTPUT_SIZE]> = Mutex::new([0; OUTPUT_SIZE]);
    let (mut net, mut output) = (NET.lock().unwrap(), OUTPUT.lock().unwrap());
    for (i, (input, expected)) in INPUTS.iter().zip(&OUTPUTS).enumerate() {
        net.run(input, &mut output);
        assert!(*output == *expected, "vector {i}: {:?}, expected {expected:?}", *output);
    }
}
