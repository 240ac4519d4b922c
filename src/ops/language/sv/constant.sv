// The same PERIOD codes again and again.
`default_nettype none
module constant #(
    parameter int WIDTH = 8,
    parameter int PERIOD = 16,
    parameter CODES = "codes.hex"
) (
    input  wire              clk,
    input  wire              rst_n,
    output wire  [WIDTH-1:0] m_tdata,
    output wire              m_tvalid,
    input  wire              m_tready
);
    localparam int B = PERIOD > 1 ? $clog2(PERIOD) : 1;
    logic [WIDTH-1:0] codes [0:PERIOD-1];
    initial $readmemh(CODES, codes);
    logic [B-1:0] at;
    assign m_tdata = codes[at];
    assign m_tvalid = rst_n;
    always_ff @(posedge clk) begin
        if (!rst_n) at <= '0;
        else if (m_tready) at <= at == B'(PERIOD - 1) ? '0 : at + 1'b1;
    end
endmodule
`default_nettype wire
