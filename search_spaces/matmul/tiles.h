// Which tile of C is whose turn, which part of k, and where a tile lies in shared memory: integers
// only, so that this part compiles as plain C too and can be tested on any machine.

#ifndef TILES_H
#define TILES_H

#ifndef FUNCTION
#define FUNCTION static inline
#endif

// ---- Order of tiles: bands of `raster` rows of tiles, column by column within a band

FUNCTION int band_of(int index, int columns, int raster) { return index / (raster * columns); }

FUNCTION int band_height(int band, int rows, int raster)
{
    const int left = rows - band * raster;
    return left < raster ? left : raster;
}

FUNCTION int tile_row(int index, int rows, int columns, int raster)
{
    const int band = band_of(index, columns, raster);
    return band * raster + index % (raster * columns) % band_height(band, rows, raster);
}

FUNCTION int tile_column(int index, int rows, int columns, int raster)
{
    const int band = band_of(index, columns, raster);
    return index % (raster * columns) / band_height(band, rows, raster);
}

// ---- Parts of k: each of equally many steps, but the last, which may have fewer

FUNCTION int first_step_of(int part, int steps, int parts)
{
    return part * ((steps + parts - 1) / parts);
}

FUNCTION int steps_of(int part, int steps, int parts)
{
    const int most = (steps + parts - 1) / parts, left = steps - first_step_of(part, steps, parts);
    return left < most ? left : most;
}

// ---- A tile in shared memory: lines of `chunks` times 16 bytes, neighbours in global memory
//
// Shared memory has 32 banks of 4 bytes: eight chunks side by side use all of them. Matrix loads
// and fragments take one chunk of each of eight lines at a time (or, for 4-byte elements across the
// lines and for vectors of 8 bytes, two chunks of each of four lines: `turn` 2; for vectors of 16,
// four of each of two: 4), and a copy fills whole lines. So the chunks of a line are permuted by
// exclusive or with the line's number, as far as eight chunks reach.

FUNCTION int swizzled(int line, int chunk, const int chunks, const int turn)
{
    const int lines = chunks < 8 ? 8 / chunks : 1;  // that share the 128 bytes of all banks
    const int permuted = chunk ^ (line / lines * turn & (chunks < 8 ? chunks - 1 : 7));
    return (line * chunks + permuted) * 16;
}

// Where a line of k goes that pairs of k are taken from: pair x of each of four eights side by side.
FUNCTION int in_turn(int line)
{
    return line / 32 * 32 + line / 2 % 4 * 8 + line / 8 % 4 * 2 + line % 2;
}

// ---- What lane `lane` of a warp keeps of the sums of 16 rows by 8 columns

FUNCTION int sum_row(int lane, int i) { return lane / 4 + i / 2 * 8; }
FUNCTION int sum_column(int lane, int i) { return lane % 4 * 2 + i % 2; }

#endif
