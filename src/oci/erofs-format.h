/* SPDX-License-Identifier: MIT */
/*
 * EROFS on disk, the part of it that we write (Linux, Documentation/filesystems/erofs.rst). Little-endian.
 *
 *     byte 1024        superblock, 128 bytes; its CRC-32C covers the rest of the first block too
 *     meta_blkaddr     inodes, in slots of 32 bytes; the number of the first slot is the inode's NID
 *
 * After an inode of 64 bytes come its extended attributes, then, by its data layout:
 *
 *     FLAT_PLAIN   nothing: content is in consecutive blocks from `u`
 *     FLAT_INLINE  the last partial block of content, which may not cross a block's border; the rest as
 * before CHUNK_BASED  for every chunk of content the address of its first block, 4 bytes each;
 * EROFS_NULL_ADDR: hole
 *
 * A directory's content is a sequence of blocks; in each first the entries, then their names in the same
 * order, which is that of the bytes of the names over the whole directory, "." and ".." taking part.
 */
#ifndef OCI_EROFS_FORMAT_H
#define OCI_EROFS_FORMAT_H

#include <endian.h>
#include <stdint.h>

#define EROFS_BLOCK_BITS   12
#define EROFS_BLOCK_SIZE   (1u << EROFS_BLOCK_BITS)
#define EROFS_SUPER_OFFSET 1024
#define EROFS_SUPER_MAGIC  0xE0F5E1E2u
#define EROFS_SLOT_SIZE	   32 /* bytes per NID */
#define EROFS_NULL_ADDR	   UINT32_MAX

#define EROFS_COMPAT_SB_CHKSUM	    0x1u
#define EROFS_COMPAT_MTIME	    0x2u
#define EROFS_INCOMPAT_CHUNKED_FILE 0x4u
#define EROFS_CHUNK_BITS_MAX	    31

#define EROFS_INODE_EXTENDED 1 /* bit 0 of format */
#define EROFS_FLAT_PLAIN     0 /* bits 1-3 of format */
#define EROFS_FLAT_INLINE    2
#define EROFS_CHUNK_BASED    4

enum {
	EROFS_FT_REG = 1,
	EROFS_FT_DIR,
	EROFS_FT_CHR,
	EROFS_FT_BLK,
	EROFS_FT_FIFO,
	EROFS_FT_SOCK,
	EROFS_FT_LNK
};

struct erofs_super {
	uint32_t magic, checksum, feature_compat;
	uint8_t blkszbits, sb_extslots;
	uint16_t root_nid;
	uint64_t inos, build_time;
	uint32_t build_time_nsec, blocks, meta_blkaddr, xattr_blkaddr;
	uint8_t uuid[16], volume_name[16];
	uint32_t feature_incompat;
	uint16_t compr_algs, extra_devices, devt_slotoff;
	uint8_t dirblkbits, xattr_prefix_count;
	uint32_t xattr_prefix_start;
	uint64_t packed_nid;
	uint8_t reserved[24];
} __attribute__((packed));
_Static_assert(sizeof(struct erofs_super) == 128, "superblock");

struct erofs_inode {
	uint16_t format;
	uint16_t xattr_icount; /* 0, or 1 + (bytes after the 12 of the header) / 4 */
	uint16_t mode, reserved;
	uint64_t size;
	uint32_t u; /* first block, device number, or chunk format (log2 of blocks per chunk) */
	uint32_t ino, uid, gid;
	uint64_t mtime;
	uint32_t mtime_nsec, nlink;
	uint8_t reserved2[16];
} __attribute__((packed));
_Static_assert(sizeof(struct erofs_inode) == 64, "inode");

struct erofs_dirent {
	uint64_t nid;
	uint16_t nameoff;
	uint8_t type, reserved;
} __attribute__((packed));
_Static_assert(sizeof(struct erofs_dirent) == 12, "dirent");

#define EROFS_XATTR_HEADER_SIZE 12 /* name filter (unused), number of shared entries (none), reserved */
#define EROFS_XATTR_VALUE_MAX	65535

/* Followed by the name without its prefix, the value, and zeros to a multiple of 4 bytes. */
struct erofs_xattr {
	uint8_t name_len, name_index;
	uint16_t value_size;
} __attribute__((packed));

enum {
	EROFS_XATTR_USER = 1,
	EROFS_XATTR_ACL_ACCESS,
	EROFS_XATTR_ACL_DEFAULT,
	EROFS_XATTR_TRUSTED,
	EROFS_XATTR_SECURITY = 6
};

#endif
