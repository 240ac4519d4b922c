// One stream becomes N of the same data; a beat is taken when all of them have had it.
`default_nettype none
module fork_stream #(
    parameter int N = 2
) (
    input  wire          clk,
    input  wire          rst_n,
    input  wire          s_tvalid,
    output wire          s_tready,
    output wire  [N-1:0] m_tvalid,
    input  wire  [N-1:0] m_tready
);
    logic [N-1:0] had;
    assign m_tvalid = {N{s_tvalid}} & ~had;
    assign s_tready = &(had | m_tready);
    always_ff @(posedge clk) begin
        if (!rst_n || (s_tvalid && s_tready)) had <= '0;
        else had <= had | (m_tvalid & m_tready);
    end
endmodule
`default_nettype wire
