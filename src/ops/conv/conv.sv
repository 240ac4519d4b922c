// A convolution of a stream of codes [y][x][c] to another: `window` and `product`. A linear layer is one of a single
// position.
`default_nettype none
module conv #(
    parameter int X = 8, parameter int W = 8, parameter int Y = 8,
    parameter int IH = 32, parameter int IW = 32, parameter int IC = 16,
    parameter int OH = 32, parameter int OW = 32, parameter int OC = 16,
    parameter int KH = 3, parameter int KW = 3,
    parameter int SH = 1, parameter int SW = 1,
    parameter int DH = 1, parameter int DW = 1,
    parameter int PT = 1, parameter int PL = 1,
    parameter int GROUPS = 1,
    parameter int LANEWISE = 0,             // depthwise: PE groups at a time, of one channel each
    parameter int SIMD = 1, parameter int PE = 1,
    parameter int XZ = 0, parameter int YZ = 0, parameter int LO = -128, parameter int HI = 127,
    parameter int ACC = 24,
    parameter logic signed [ACC-1:0] BOUND = 0,
    parameter int SIG = 24, parameter int UP = 0, parameter int BASE = 20, parameter int EXTRA = 3,
    parameter int DEPTH = 32,
    parameter WEIGHTS = "weights.hex",
    parameter CONSTANTS = "constants.hex"
) (
    input  wire          clk,
    input  wire          rst_n,
    input  wire  [X-1:0] s_tdata,
    input  wire          s_tvalid,
    output wire          s_tready,
    output wire  [Y-1:0] m_tdata,
    output wire          m_tvalid,
    input  wire          m_tready
);
    localparam int LANES = LANEWISE != 0 ? PE : SIMD;
    localparam int PARTS = LANEWISE != 0 ? GROUPS / PE : GROUPS;
    wire [X*LANES-1:0] wide_tdata, x;
    wire wide_tvalid, wide_tready;
    wire credit, tap, first, last, inside_image;
    wire unused = &{1'b0, inside_image};
    widen #(.WIDTH(X), .FACTOR(LANES)) u_widen (
        .clk(clk), .rst_n(rst_n), .s_tdata(s_tdata), .s_tvalid(s_tvalid), .s_tready(s_tready),
        .m_tdata(wide_tdata), .m_tvalid(wide_tvalid), .m_tready(wide_tready)
    );
    window #(
        .X(X), .IH(IH), .IW(IW), .IC(IC), .OH(OH), .OW(OW), .GROUPS(PARTS),
        .REPEATS(LANEWISE != 0 ? 1 : OC / GROUPS / PE), .KH(KH), .KW(KW), .SH(SH), .SW(SW), .DH(DH), .DW(DW),
        .PT(PT), .PL(PL), .LANES(LANES), .PAD(XZ)
    ) u_window (
        .clk(clk), .rst_n(rst_n), .s_tdata(wide_tdata), .s_tvalid(wide_tvalid), .s_tready(wide_tready),
        .credit(credit), .tap(tap), .first(first), .last(last), .x(x),
        .inside_image(inside_image)
    );
    product #(
        .X(X), .W(W), .CHANNELS(OC), .TAPS(KH * KW * IC / LANES / PARTS), .LANEWISE(LANEWISE), .SIMD(SIMD), .PE(PE),
        .ACC(ACC), .BOUND(BOUND), .SIG(SIG), .UP(UP), .BASE(BASE), .EXTRA(EXTRA), .Y(Y), .YZ(YZ), .LO(LO), .HI(HI),
        .DEPTH(DEPTH), .WEIGHTS(WEIGHTS), .CONSTANTS(CONSTANTS)
    ) u_product (
        .clk(clk), .rst_n(rst_n), .credit(credit), .tap(tap), .first(first), .last(last), .x(x),
        .m_tdata(m_tdata), .m_tvalid(m_tvalid), .m_tready(m_tready)
    );
endmodule
`default_nettype wire
