// Tells the last beat of each frame of LENGTH beats.
`default_nettype none
module frame #(
    parameter int LENGTH = 16
) (
    input  wire clk,
    input  wire rst_n,
    input  wire go,
    output wire last
);
    localparam int B = LENGTH > 1 ? $clog2(LENGTH) : 1;
    logic [B-1:0] at;
    assign last = at == B'(LENGTH - 1);
    always_ff @(posedge clk) begin
        if (!rst_n) at <= '0;
        else if (go) at <= last ? '0 : at + 1'b1;
    end
endmodule
`default_nettype wire
