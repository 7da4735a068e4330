// The parts of split-K, added in a fixed order, so that every run gives the same bits.
//
//   reduce:  groups (elements of C / REDUCE_LANES / REDUCE_THREADS, 1, BATCH)

#ifndef SPLIT_K_H
#define SPLIT_K_H

#ifndef REDUCE_THREADS
#define REDUCE_THREADS 128  // threads of a block of the reduction
#endif
#define REDUCE_LANES (N % 4 == 0 ? 4 : 1)  // neighbours in a row that one of them adds

// result += what lies at `from`
FUNCTION void add_part(PARTIAL (&result)[4], const PARTIAL *from)
{
    const Vector4<PARTIAL> part = *(const Vector4<PARTIAL> *)from;
    result[0] += part.x, result[1] += part.y, result[2] += part.z, result[3] += part.w;
}
FUNCTION void add_part(PARTIAL (&result)[1], const PARTIAL *from) { result[0] += *from; }

KERNEL GROUP_SIZE(REDUCE_THREADS, 1, 1) void reduce(const PARTIAL *RESTRICT partial,
                                                    C_TYPE *RESTRICT c EPILOGUE_PARAMETERS)
{
    const long long elements = (long long)M * N, batch = GROUP_ID(2);
    const long long first = ((long long)GROUP_ID(0) * REDUCE_THREADS + LOCAL_ID(0)) * REDUCE_LANES;
    if (first >= elements) return;
    const PARTIAL *part = partial + batch * SPLIT_K * elements + first;
    PARTIAL sums[REDUCE_LANES] = {};
#pragma unroll
    for (int split = 0; split < SPLIT_K; split++) add_part(sums, part + split * elements);
#ifdef EPILOGUE_GROUP
    const int product = row_group_of_row((int)(first / N));
#endif
    C_TYPE stored[REDUCE_LANES];
#pragma unroll
    for (int lane = 0; lane < REDUCE_LANES; lane++)
        stored[lane] = VALUE_TO_C(EPILOGUE((VALUE)sums[lane], (size_t)(batch * M + first / N),
                                           (int)(first % N) + lane));
    store<REDUCE_LANES>(c + batch * elements + first, stored);
}

#endif
