#include "textflag.h"

// func called(shared *byte, vector int)
TEXT ·called(SB), NOSPLIT, $0-16
	MRS  CNTVCT_EL0, R0
	MOVD shared+0(FP), R1
	MOVD vector+8(FP), R2
	MOVD (R1), R3
	AND  $0xffff, R3, R4
	ADD  $20480, R1, R5
	MOVD R0, (R5)(R4<<3)
	ADD  $4096, R1, R5
	MOVD R0, (R5)(R2<<3)
	ADD  $1, R3
	STLR R3, (R1)
	RET

// func load(word *byte) uint64
TEXT ·load(SB), NOSPLIT, $0-16
	MOVD word+0(FP), R0
	LDAR (R0), R1
	MOVD R1, ret+8(FP)
	RET

// func store(word *byte, v uint64)
TEXT ·store(SB), NOSPLIT, $0-16
	MOVD word+0(FP), R0
	MOVD v+8(FP), R1
	STLR R1, (R0)
	RET

// func clock() uint64
TEXT ·clock(SB), NOSPLIT, $0-8
	ISB  $15
	MRS  CNTVCT_EL0, R0
	MOVD R0, ret+0(FP)
	RET
