// For tests: takes codes, in each cycle with this probability, and compares them with those of a file.
`default_nettype none
module sink #(
    parameter int WIDTH = 8,
    parameter int FRAME = 1,
    parameter int COUNT = 1,                // of all frames
    parameter CODES = "codes.hex"
) (
    input  wire             clk,
    input  wire             rst_n,
    input  wire      [31:0] percent,
    input  wire [WIDTH-1:0] s_tdata,
    input  wire             s_tvalid,
    output logic            s_tready,
    input  wire             s_tlast,
    output int              taken,
    output int              errors
);
    logic [WIDTH-1:0] codes [0:COUNT-1];
    initial $readmemh(CODES, codes);
    initial errors = 0;
    wire last = taken % FRAME == FRAME - 1;
    always_ff @(posedge clk) begin
        s_tready <= rst_n && $urandom % 100 < percent;
        if (!rst_n) taken <= 0;
        else if (s_tvalid !== 1'b0 && taken == COUNT) errors <= errors + 1;
        else if (s_tvalid && s_tready) begin
            if (s_tdata !== codes[taken] || s_tlast !== last) begin
                errors <= errors + 1;
                if (errors < 10) $display("%m: code %0d is %0h, expected %0h", taken, s_tdata, codes[taken]);
            end
            taken <= taken + 1;
        end
    end
endmodule
`default_nettype wire
