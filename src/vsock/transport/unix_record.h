// SPDX-License-Identifier: MIT
// Marked records: MSG_EOR and records of any size over a SOCK_SEQPACKET Unix socket, by descriptors beside the bytes.
#pragma once

/*
 * A record is one message of the socket, and nothing is added to its bytes. What the socket
 * cannot carry is told by the number of descriptors that come with the message (SCM_RIGHTS):
 *
 *     0   the bytes are the record
 *     1   the same, and it was sent with MSG_EOR; the descriptor has no other use
 *     2   the bytes mean nothing: the record is the whole of the file that the first one
 *         is (a memfd)
 *     3   the same, and it was sent with MSG_EOR
 *
 * An end that knows nothing of this can be sent the first two: it loses the mark, no more.
 * 2 and 3 need to know that the other end takes them. An end says so in its Unix address,
 * which getpeername() tells the other: a listener by "/./" before the last part of its path,
 * one that connects by the last letter of its abstract name,
 *
 *     \0uvirt-vsock/<cid>:<port>/<hex>m
 *
 * The hex digits of `uvirt exec` are the CID and the port dialled, eight digits each, and
 * eight random ones.
 */
#define VSOCK_RECORD_EOR      1
#define VSOCK_RECORD_FILE     2
#define VSOCK_RECORD_FILE_EOR 3

#define VSOCK_UNIX_MARKS_PATH "/./"
#define VSOCK_UNIX_MARKS_NAME 'm'
