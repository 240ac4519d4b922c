// Where results of a pipeline that never stops land. Work that gives PER results begins, with `take`, only
// where there is `room` for them.
`default_nettype none
module landing #(
    parameter int WIDTH = 8,
    parameter int DEPTH = 16,               // a power of two
    parameter int PER = 1
) (
    input  wire              clk,
    input  wire              rst_n,
    output wire              room,
    input  wire              take,
    input  wire  [WIDTH-1:0] data,
    input  wire              valid,
    output wire  [WIDTH-1:0] m_tdata,
    output wire              m_tvalid,
    input  wire              m_tready
);
    localparam int B = $clog2(DEPTH + 1);
    logic [B-1:0] free;
    wire s_tready;
    assign room = free >= B'(PER);
    always_ff @(posedge clk) begin
        if (!rst_n) free <= B'(DEPTH);
        else free <= free - (take ? B'(PER) : B'(0)) + B'({1'b0, m_tvalid && m_tready});
    end
    fifo #(.WIDTH(WIDTH), .DEPTH(DEPTH)) u_fifo (
        .clk(clk), .rst_n(rst_n), .s_tdata(data), .s_tvalid(valid), .s_tready(s_tready),
        .m_tdata(m_tdata), .m_tvalid(m_tvalid), .m_tready(m_tready)
    );
`ifndef SYNTHESIS
    always_ff @(posedge clk) if (rst_n && valid && !s_tready) $fatal(1, "a result has no place to land");
`else
    wire unused = &{1'b0, s_tready};
`endif
endmodule
`default_nettype wire
