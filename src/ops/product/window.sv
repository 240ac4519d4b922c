// The taps of windows over an image, in the order of their products, from a stream of its codes.
//
// Codes come in as [y][x][c], LANES of neighbouring channels a beat. ROWS rows of them are kept in a ring. For each
// position of the window, for each of its GROUPS of channels, REPEATS times, the taps [ky][kx][c] go out, one beat a
// cycle; those of one sum follow each other without a gap, as soon as there is `credit` for it. `tap`, `first` and
// `last` tell of a beat whose codes `x` follow three cycles later. Positions outside the image hold the code PAD. A
// frame may begin before the windows of the last one are done.
`default_nettype none
module window #(
    parameter int X = 8,                    // bits of a code
    parameter int IH = 32, parameter int IW = 32, parameter int IC = 16,
    parameter int OH = 32, parameter int OW = 32,
    parameter int GROUPS = 1, parameter int REPEATS = 16,
    parameter int KH = 3, parameter int KW = 3,
    parameter int SH = 1, parameter int SW = 1,
    parameter int DH = 1, parameter int DW = 1,
    parameter int PT = 1, parameter int PL = 1,
    parameter int LANES = 1,
    parameter int PAD = 0
) (
    input  wire                clk,
    input  wire                rst_n,
    input  wire  [X*LANES-1:0] s_tdata,
    input  wire                s_tvalid,
    output wire                s_tready,
    input  wire                credit,
    output wire                tap,
    output wire                first,
    output wire                last,
    output logic [X*LANES-1:0] x,
    output logic               inside_image
);
    localparam int REACH = (KH - 1) * DH + 1;
    localparam int ROWS = (REACH < IH ? REACH : IH) + SH;
    localparam int BEATS = IC / LANES;              // of a pixel
    localparam int PART = BEATS / GROUPS;           // of a pixel's group
    localparam int ROW = IW * BEATS;
    localparam int RING = ROWS * ROW;
    // From the last row of windows of a frame to the first one of the next, in the ring.
    localparam int NEXT = ((IH - (OH - 1) * SH) % ROWS + ROWS) % ROWS;
    localparam int START = (ROWS - PT % ROWS) % ROWS;
    localparam int A = RING > 1 ? $clog2(RING) : 1;
    // Signed positions, in the padding too, and counters of rows of all frames, modulo a power of two.
    localparam int YB = $clog2(IH + OH * SH + KH * DH + PT + 1) + 1;
    localparam int XB = $clog2(IW + OW * SW + KW * DW + PL + 1) + 1;
    localparam int CB = $clog2(ROW + (OW * SW + KW * DW + PL) * BEATS + 1) + 1;
    localparam int HB = $clog2(2 * (IH + ROWS) + 1) + 1;
    localparam int BB = BEATS > 1 ? $clog2(BEATS) : 1;
    localparam int RB = REPEATS > 1 ? $clog2(REPEATS) : 1;
    localparam int KYB = KH > 1 ? $clog2(KH) : 1;
    localparam int KXB = KW > 1 ? $clog2(KW) : 1;
    localparam int OYB = OH > 1 ? $clog2(OH) : 1;
    localparam int OXB = OW > 1 ? $clog2(OW) : 1;
    localparam int WXB = $clog2(IW + 1);
    localparam logic signed [YB-1:0] Y_LAST = YB'(IH - 1);
    localparam logic signed [XB-1:0] X_LAST = XB'(IW - 1);

    function automatic [A-1:0] forward(input [A-1:0] at, input [A:0] by);
        logic [A:0] sum;
        sum = {1'b0, at} + by;
        forward = A'(sum >= (A + 1)'(RING) ? sum - (A + 1)'(RING) : sum);
    endfunction

    // Writing.
    logic [X*LANES-1:0] ring [0:RING-1];
    logic [A-1:0] w_at;
    logic [WXB-1:0] w_x;
    logic [BB-1:0] w_beat;
    logic [HB-1:0] rows_in, rows_freed;
    logic room, room_after, w_row_ended;
    wire w_pixel_end = w_beat == BB'(BEATS - 1);
    wire w_row_end = w_pixel_end && w_x == WXB'(IW - 1);
    wire w_go = s_tvalid && s_tready;
    wire [HB-1:0] held = rows_in - rows_freed;      // negative where rows are freed unseen
    assign s_tready = w_row_ended ? room_after : room;
    always_ff @(posedge clk) begin
        room <= rst_n && $signed(held) < $signed(HB'(ROWS));
        room_after <= rst_n && $signed(held) < $signed(HB'(ROWS - 1));
        w_row_ended <= rst_n && w_go && w_row_end;
        if (!rst_n) begin
            w_at <= '0;
            w_x <= '0;
            w_beat <= '0;
            rows_in <= '0;
        end else if (w_go) begin
            w_at <= w_at == A'(RING - 1) ? '0 : w_at + 1'b1;
            w_beat <= w_pixel_end ? '0 : w_beat + 1'b1;
            if (w_pixel_end) w_x <= w_row_end ? '0 : w_x + 1'b1;
            if (w_row_end) rows_in <= rows_in + 1'b1;
        end
    end

    // The next position: whether all it needs has come is found out in three cycles, while the taps of the one
    // before it go out.
    logic [OYB-1:0] n_oy;
    logic [OXB-1:0] n_ox;
    logic [HB-1:0] n_base;                          // the first row of its frame
    logic signed [YB-1:0] n_iy0;
    logic signed [XB-1:0] n_ix0;
    logic signed [CB-1:0] n_col0;
    logic [A-1:0] n_row0;
    logic n_new;                                    // of its row of positions
    logic [HB-1:0] n_need, n_from;
    logic [WXB-1:0] n_x_need;
    logic n_known, n_ready;
    wire n_ox_end = n_ox == OXB'(OW - 1);
    wire n_oy_end = n_oy == OYB'(OH - 1);
    wire signed [YB-1:0] y_end = n_iy0 + YB'((KH - 1) * DH);
    wire signed [XB-1:0] x_end = n_ix0 + XB'((KW - 1) * DW);
    wire [HB-1:0] ahead = rows_in - n_need;

    logic active, busy;
    logic [RB-1:0] repetition;
    logic [KYB-1:0] ky;
    logic [KXB-1:0] kx;
    logic [BB-1:0] part, beat;                      // the first beat of the group, and the one after it
    logic signed [YB-1:0] iy0, iy;
    logic signed [XB-1:0] ix0, ix;
    logic signed [CB-1:0] col0, col;
    logic [A-1:0] row0, row;
    wire beat_end = beat == BB'(PART - 1);
    wire kx_end = kx == KXB'(KW - 1);
    wire ky_end = ky == KYB'(KH - 1);
    wire taps_end = kx_end && ky_end && beat_end;
    wire group_end = taps_end && repetition == RB'(REPEATS - 1);
    wire position_end = tap && group_end && part == BB'(BEATS - PART);
    wire load = n_ready && (!active || position_end);
    assign tap = active && (busy || credit);
    assign first = !busy;
    assign last = taps_end;

    always_ff @(posedge clk) begin
        n_need <= n_base + (y_end < 0 ? HB'(0) : y_end > Y_LAST ? HB'(IH - 1) : HB'(y_end));
        n_from <= n_base + (n_iy0 < 0 ? HB'(0) : n_iy0 > Y_LAST ? HB'(IH) : HB'(n_iy0));
        n_x_need <= x_end < 0 ? '0 : x_end > X_LAST ? WXB'(IW - 1) : WXB'(x_end);
        if (!rst_n) begin
            n_oy <= '0;
            n_ox <= '0;
            n_base <= '0;
            n_iy0 <= YB'(-PT);
            n_ix0 <= XB'(-PL);
            n_col0 <= CB'(-PL * BEATS);
            n_row0 <= A'(START * ROW);
            n_new <= 1'b1;
            n_known <= 1'b0;
            n_ready <= 1'b0;
            rows_freed <= '0;
        end else begin
            n_known <= !load;
            n_ready <= !load && n_known && ($signed(ahead) > 0 || (ahead == 0 && w_x > n_x_need));
            if (n_known && n_new && (!active || position_end)) rows_freed <= n_from;
            if (load) begin
                n_ox <= n_ox_end ? '0 : n_ox + 1'b1;
                n_ix0 <= n_ox_end ? XB'(-PL) : n_ix0 + XB'(SW);
                n_col0 <= n_ox_end ? CB'(-PL * BEATS) : n_col0 + CB'(SW * BEATS);
                n_new <= n_ox_end;
                if (n_ox_end) begin
                    n_oy <= n_oy_end ? '0 : n_oy + 1'b1;
                    n_iy0 <= n_oy_end ? YB'(-PT) : n_iy0 + YB'(SH);
                    n_row0 <= forward(n_row0, n_oy_end ? (A + 1)'(NEXT * ROW) : (A + 1)'(SH % ROWS * ROW));
                    if (n_oy_end) n_base <= n_base + HB'(IH);
                end
            end
        end
    end

    // The taps of a position.
    always_ff @(posedge clk) begin
        if (!rst_n) begin
            active <= 1'b0;
            busy <= 1'b0;
            repetition <= '0;
            ky <= '0;
            kx <= '0;
            part <= '0;
            beat <= '0;
        end else begin
            active <= load || (active && !position_end);
            if (tap) begin
                busy <= !taps_end;
                beat <= beat_end ? '0 : beat + 1'b1;
                if (beat_end) kx <= kx_end ? '0 : kx + 1'b1;
                if (beat_end && kx_end) ky <= ky_end ? '0 : ky + 1'b1;
                if (taps_end) repetition <= group_end ? '0 : repetition + 1'b1;
                if (group_end) part <= position_end ? '0 : part + BB'(PART);
            end
        end
        if (tap && beat_end) begin
            ix <= kx_end ? ix0 : ix + XB'(DW);
            col <= kx_end ? col0 : col + CB'(DW * BEATS);
            if (kx_end) begin
                iy <= ky_end ? iy0 : iy + YB'(DH);
                row <= ky_end ? row0 : forward(row, (A + 1)'(DH % ROWS * ROW));
            end
        end
        if (load) begin
            iy0 <= n_iy0;
            iy <= n_iy0;
            ix0 <= n_ix0;
            ix <= n_ix0;
            col0 <= n_col0;
            col <= n_col0;
            row0 <= n_row0;
            row <= n_row0;
        end
    end

    // The ring: one port writes, one reads. A row is read for the last time before its place is written again.
    logic [A-1:0] r_at;
    logic [X*LANES-1:0] r_data;
    logic r_outside, outside;
    always_ff @(posedge clk) begin
        if (w_go) ring[w_at] <= s_tdata;
        r_at <= A'(col + CB'({1'b0, part}) + CB'({1'b0, beat})) + row;
        r_outside <= iy < 0 || iy > Y_LAST || ix < 0 || ix > X_LAST;
        r_data <= ring[r_at];
        outside <= r_outside;
        x <= outside ? {LANES{X'(PAD)}} : r_data;
        inside_image <= !outside;
    end
endmodule
`default_nettype wire
