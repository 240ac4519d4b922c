// y = clamp(rne((a * FA + b * FB + C) / 2^BASE) + YZ, LO, HI); the zero points of a and b are in C.
// A code lands seven cycles after its arguments went in.
`default_nettype none
module add #(
    parameter int X = 8, parameter int Y = 8,
    parameter int F = 32,                   // bits of FA and FB
    parameter int SUM = 42,                 // bits of the sum: those of its proved bound
    parameter logic signed [F-1:0] FA = 1,
    parameter logic signed [F-1:0] FB = 1,
    parameter logic signed [SUM-1:0] C = 0,
    parameter int BASE = 24,
    parameter int YZ = 0, parameter int LO = -128, parameter int HI = 127
) (
    input  wire          clk,
    input  wire          rst_n,
    input  wire  [X-1:0] a_tdata,
    input  wire          a_tvalid,
    output wire          a_tready,
    input  wire  [X-1:0] b_tdata,
    input  wire          b_tvalid,
    output wire          b_tready,
    output wire  [Y-1:0] m_tdata,
    output wire          m_tvalid,
    input  wire          m_tready
);
    localparam int P = X + F < SUM ? X + F : SUM;
    wire room;
    wire go = a_tvalid && b_tvalid && room;
    assign a_tready = go;
    assign b_tready = go;
    logic signed [X-1:0] a, b;
    logic signed [P-1:0] fa, fb;
    logic signed [SUM-1:0] sum;
    logic [6:0] travelling;
    wire [Y-1:0] code;
    always_ff @(posedge clk) begin
        a <= a_tdata;
        b <= b_tdata;
        fa <= a * FA;
        fb <= b * FB;
        sum <= SUM'(fa) + SUM'(fb) + C;
        if (!rst_n) travelling <= '0;
        else travelling <= {travelling[5:0], go};
    end
    requantize #(.IN(SUM), .BASE(BASE), .EXTRA(1), .Y(Y), .YZ(YZ), .LO(LO), .HI(HI)) u_requantize (
        .clk(clk), .v(sum), .shift(1'b0), .code(code)
    );
    landing #(.WIDTH(Y), .DEPTH(16)) u_landing (
        .clk(clk), .rst_n(rst_n), .room(room), .take(go), .data(code), .valid(travelling[6]),
        .m_tdata(m_tdata), .m_tvalid(m_tvalid), .m_tready(m_tready)
    );
endmodule
`default_nettype wire
