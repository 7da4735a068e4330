// The parts of split-K, added in a fixed order, so that every run gives the same bits.
//
//   reduce:  groups (elements of C / REDUCE_THREADS, 1, BATCH)

#ifndef SPLIT_K_H
#define SPLIT_K_H

#ifndef REDUCE_THREADS
#define REDUCE_THREADS 128  // threads of a block of the reduction
#endif

KERNEL GROUP_SIZE(REDUCE_THREADS, 1, 1) void reduce(const PARTIAL *RESTRICT partial,
                                                    C_TYPE *RESTRICT c EPILOGUE_PARAMETERS)
{
    const long long element = (long long)GROUP_ID(0) * REDUCE_THREADS + LOCAL_ID(0);
    const long long elements = (long long)M * N, batch = GROUP_ID(2);
    if (element >= elements) return;
    const PARTIAL *part = partial + batch * SPLIT_K * elements + element;
    PARTIAL sum = 0;
#pragma unroll
    for (int split = 0; split < SPLIT_K; split++) sum += part[split * elements];
#ifdef EPILOGUE_GROUP
    const int product = row_group_of_row((int)(element / N));
#endif
    c[batch * elements + element] = VALUE_TO_C(
        EPILOGUE((VALUE)sum, (size_t)(batch * M + element / N), (int)(element % N)));
}

#endif
