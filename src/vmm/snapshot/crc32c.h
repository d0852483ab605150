// SPDX-License-Identifier: MIT
// CRC32C, the checksum of snapshot files.
#pragma once

#include "base/types.h"

/* Go on from (crc), 0 at the start: polynomial 0x1edc6f41 reflected, as iSCSI has it (RFC 3720 B.4). */
u32 crc32c(u32 crc, const void *data, size_t len);

/* The same without the processor's instruction, for hosts that lack it. */
u32 crc32c_table(u32 crc, const void *data, size_t len);
