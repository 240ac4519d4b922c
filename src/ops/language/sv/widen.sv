// FACTOR beats become one, the first one lowest.
`default_nettype none
module widen #(
    parameter int WIDTH = 8,
    parameter int FACTOR = 2
) (
    input  wire                     clk,
    input  wire                     rst_n,
    input  wire         [WIDTH-1:0] s_tdata,
    input  wire                     s_tvalid,
    output wire                     s_tready,
    output wire  [WIDTH*FACTOR-1:0] m_tdata,
    output wire                     m_tvalid,
    input  wire                     m_tready
);
    generate
        if (FACTOR > 1) begin : g_collect
            localparam int B = $clog2(FACTOR + 1);
            logic [B-1:0] count;
            logic [WIDTH*FACTOR-1:0] beats;
            wire push = s_tvalid && s_tready;
            assign m_tdata = beats;
            assign m_tvalid = count == B'(FACTOR);
            assign s_tready = !m_tvalid || m_tready;
            always_ff @(posedge clk) begin
                if (push) beats <= {s_tdata, beats[WIDTH*FACTOR-1:WIDTH]};
                if (!rst_n) count <= '0;
                else if (m_tvalid) count <= m_tready ? B'({1'b0, push}) : count;
                else count <= count + B'({1'b0, push});
            end
        end else begin : g_same
            wire unused = &{1'b0, clk, rst_n};
            assign m_tdata = s_tdata;
            assign m_tvalid = s_tvalid;
            assign s_tready = m_tready;
        end
    endgenerate
endmodule
`default_nettype wire
