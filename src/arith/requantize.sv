// The twin of `Code::code(round_shift(v, BASE + shift), YZ, (LO, HI))` in arith.rs. Four cycles.
`default_nettype none
module requantize #(
    parameter int IN = 48,                  // bits of v
    parameter int BASE = 20,
    parameter int EXTRA = 3,
    parameter int Y = 8,                    // bits of the code
    parameter int YZ = 0,
    parameter int LO = -128,
    parameter int HI = 127
) (
    input  wire                    clk,
    input  wire signed [IN-1:0]    v,
    input  wire        [EXTRA-1:0] shift,
    output logic signed [Y-1:0]    code
);
    // Wide enough for the shift, and for the distance of any two codes.
    localparam int P = IN > BASE + Y + 1 ? IN : BASE + Y + 1;
    localparam int Q = P - BASE + 1;
    localparam int LEAST = LO - YZ;
    localparam int MOST = HI - YZ;
    wire signed [P-1:0] wide = P'(v);
    wire signed [Q-1:0] q;
    round_shift #(.IN(P), .BASE(BASE), .EXTRA(EXTRA)) u_round (
        .clk(clk), .v(wide), .shift(shift), .q(q)
    );
    always_ff @(posedge clk) begin
        if (q < Q'(LEAST)) code <= Y'(LO);
        else if (q > Q'(MOST)) code <= Y'(HI);
        else code <= Y'(q) + Y'(YZ);
    end
endmodule
`default_nettype wire
