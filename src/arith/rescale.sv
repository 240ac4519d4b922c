// The twin of `requantize(acc + bias, ..)` in arith.rs: a code each cycle, seven cycles later.
// SIG = 1 stands for powers of two: they take no multiplier.
`default_nettype none
module rescale #(
    parameter int ACC = 24,                 // bits that hold acc, bias and their sum: those of the proved bound
    parameter int SIG = 24,                 // bits of the significand
    parameter int UP = 0,                   // the product is taken so many bits to the left, so that BASE >= 1
    parameter int BASE = 20,
    parameter int EXTRA = 3,
    parameter int Y = 8,
    parameter int YZ = 0,
    parameter int LO = -128,
    parameter int HI = 127
) (
    input  wire                    clk,
    input  wire signed [ACC-1:0]   acc,
    input  wire signed [ACC-1:0]   bias,
    input  wire        [SIG-1:0]   significand,
    input  wire        [EXTRA-1:0] shift,
    output wire signed [Y-1:0]     code
);
    localparam int P = ACC + SIG + UP;
    logic signed [ACC-1:0] sum;
    logic [SIG-1:0] sig0;
    logic [EXTRA-1:0] shift0, shift1, shift2;
    logic signed [P-1:0] product;
    always_ff @(posedge clk) begin
        sum <= acc + bias;
        sig0 <= significand;
        shift0 <= shift;
        shift1 <= shift0;
        shift2 <= shift1;
    end
    generate
        if (SIG == 1) begin : g_power
            logic signed [ACC-1:0] sum1;
            always_ff @(posedge clk) begin
                sum1 <= sum;
                product <= P'(sum1) <<< UP;
            end
            wire unused = &{1'b0, sig0};
        end else begin : g_product
            // Two partial products, so that no path is longer than one DSP block.
            localparam int H = SIG / 2;
            localparam int L = SIG - H;
            logic signed [ACC+L:0] low;
            logic signed [ACC+H:0] high;
            wire signed [L:0] sig_low = {1'b0, sig0[L-1:0]};
            wire signed [H:0] sig_high = {1'b0, sig0[SIG-1:L]};
            always_ff @(posedge clk) begin
                low <= sum * sig_low;
                high <= sum * sig_high;
                product <= (P'(low) + (P'(high) <<< L)) <<< UP;
            end
        end
    endgenerate
    requantize #(
        .IN(P), .BASE(BASE), .EXTRA(EXTRA), .Y(Y), .YZ(YZ), .LO(LO), .HI(HI)
    ) u_requantize (
        .clk(clk), .v(product), .shift(shift2), .code(code)
    );
endmodule
`default_nettype wire
