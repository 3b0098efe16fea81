;; Computes SipHash-2-4 of the octets from 16 on, for siphash.ts; leaves the result at 0. WebAssembly, because the hash
;; consists of 64-bit words: in JavaScript each is two halves, which takes three to seven times as long. `npm run wasm`
;; writes siphash-wasm.ts from this file.
(module
  (memory (export "memory") 2)

  (func (export "hash") (param $k0l i32) (param $k0h i32) (param $k1l i32) (param $k1h i32) (param $length i32)
    (local $k0 i64) (local $k1 i64) (local $v0 i64) (local $v1 i64) (local $v2 i64) (local $v3 i64)
    (local $word i64) (local $at i32) (local $whole i32) (local $rounds i32) (local $shift i64) (local $phase i32)
    (local.set $k0 (i64.or (i64.extend_i32_u (local.get $k0l)) (i64.shl (i64.extend_i32_u (local.get $k0h)) (i64.const 32))))
    (local.set $k1 (i64.or (i64.extend_i32_u (local.get $k1l)) (i64.shl (i64.extend_i32_u (local.get $k1h)) (i64.const 32))))
    (local.set $v0 (i64.xor (local.get $k0) (i64.const 0x736f6d6570736575)))
    (local.set $v1 (i64.xor (local.get $k1) (i64.const 0x646f72616e646f6d)))
    (local.set $v2 (i64.xor (local.get $k0) (i64.const 0x6c7967656e657261)))
    (local.set $v3 (i64.xor (local.get $k1) (i64.const 0x7465646279746573)))
    ;; The message begins at 16; the result lies before it.
    (local.set $at (i32.const 16))
    (local.set $whole (i32.add (i32.const 16) (i32.and (local.get $length) (i32.const -8))))
    (local.set $rounds (i32.const 2))
    (loop $next
      (if (i32.lt_u (local.get $at) (local.get $whole))
        (then (local.set $word (i64.load (local.get $at))))
        (else
          (if (i32.eqz (local.get $phase))
            (then
              ;; The last word: the rest of the message, and the length in its highest octet.
              (local.set $shift (i64.extend_i32_u (i32.shl (i32.and (local.get $length) (i32.const 7)) (i32.const 3))))
              (local.set $word
                (i64.or
                  (i64.and (i64.load (local.get $at)) (i64.sub (i64.shl (i64.const 1) (local.get $shift)) (i64.const 1)))
                  (i64.shl (i64.extend_i32_u (local.get $length)) (i64.const 56)))))
            (else
              (local.set $word (i64.const 0))
              (local.set $v2 (i64.xor (local.get $v2) (i64.const 0xff)))
              (local.set $rounds (i32.const 4))))
          (local.set $phase (i32.add (local.get $phase) (i32.const 1)))))
      (local.set $v3 (i64.xor (local.get $v3) (local.get $word)))
      (loop $round
        (local.set $v0 (i64.add (local.get $v0) (local.get $v1)))
        (local.set $v2 (i64.add (local.get $v2) (local.get $v3)))
        (local.set $v1 (i64.xor (i64.rotl (local.get $v1) (i64.const 13)) (local.get $v0)))
        (local.set $v3 (i64.xor (i64.rotl (local.get $v3) (i64.const 16)) (local.get $v2)))
        (local.set $v0 (i64.rotl (local.get $v0) (i64.const 32)))
        (local.set $v2 (i64.add (local.get $v2) (local.get $v1)))
        (local.set $v0 (i64.add (local.get $v0) (local.get $v3)))
        (local.set $v1 (i64.xor (i64.rotl (local.get $v1) (i64.const 17)) (local.get $v2)))
        (local.set $v3 (i64.xor (i64.rotl (local.get $v3) (i64.const 21)) (local.get $v0)))
        (local.set $v2 (i64.rotl (local.get $v2) (i64.const 32)))
        (local.set $rounds (i32.sub (local.get $rounds) (i32.const 1)))
        (br_if $round (local.get $rounds)))
      (local.set $rounds (i32.const 2))
      (local.set $v0 (i64.xor (local.get $v0) (local.get $word)))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $next (i32.lt_u (local.get $phase) (i32.const 2))))
    (i64.store (i32.const 0)
      (i64.xor (i64.xor (local.get $v0) (local.get $v1)) (i64.xor (local.get $v2) (local.get $v3))))))
