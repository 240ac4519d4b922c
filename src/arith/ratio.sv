// y = clamp(rne(sum * SIGNIFICAND / count / 2^BASE) + YZ, LO, HI), the division and the product rounded once,
// together. `divided` is up N + 2 cycles after `start`, and `done`, with the code, four later.
`default_nettype none
module ratio #(
    parameter int SUM = 16,
    parameter int SIG = 24,
    parameter logic [SIG-1:0] SIGNIFICAND = 1,
    parameter int COUNT = 8,                // bits of the count
    parameter int BASE = 24,
    parameter int Y = 8, parameter int YZ = 0, parameter int LO = -128, parameter int HI = 127,
    parameter int N = SUM + SIG
) (
    input  wire                  clk,
    input  wire                  rst_n,
    input  wire                  start,
    input  wire signed [SUM-1:0] sum,
    input  wire [COUNT-1:0]      count,
    output wire                  divided,
    output wire                  done,
    output wire [Y-1:0]          code
);
    logic started;
    logic [COUNT-1:0] by;
    logic signed [N-1:0] product;
    logic [3:0] travelling;
    wire signed [N:0] quotient;
    assign done = travelling[3];
    always_ff @(posedge clk) begin
        product <= N'(sum) * $signed({{SUM{1'b0}}, SIGNIFICAND});
        by <= count;
        started <= rst_n && start;
        if (!rst_n) travelling <= '0;
        else travelling <= {travelling[2:0], divided};
    end
    divide #(.N(N), .D(COUNT)) u_divide (
        .clk(clk), .rst_n(rst_n), .start(started), .numerator(product), .denominator(by),
        .done(divided), .quotient(quotient)
    );
    requantize #(.IN(N + 1), .BASE(BASE + 1), .EXTRA(1), .Y(Y), .YZ(YZ), .LO(LO), .HI(HI)) u_requantize (
        .clk(clk), .v(quotient), .shift(1'b0), .code(code)
    );
endmodule
`default_nettype wire
