# shellcheck shell=bash
# llama.cpp for this checkout, in .deps/llama: built once per version, options and CPU, kept in the cache.

# shellcheck source=common.sh
source "${BASH_SOURCE[0]%/*}/common.sh"

llama_prefix=$root/.deps/llama
# llamafile's matrix products give other bits than those of single tokens, and so depend on what else is in the batch.
# The patch leaves them on where one sum in the same order gives the same bits: BF16 weights on CPUs that multiply BF16,
# whose prompts are read 1.6 times as fast for it. It also lets sequences that are not neighbours share a micro-batch.
llama_patch=$root/Deploy/lib/llama.patch

# OpenMP's own threads would fight with the runtime's. `common` has the Jinja engine for chat templates.
# FUSIONROUTE_LLAMA_OPTIONS adds to these (GPU back ends, for example).
llama_options() {
  printf '%s\n' -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON -DGGML_NATIVE=ON -DGGML_OPENMP=OFF \
    -DGGML_LLAMAFILE=ON -DLLAMA_BUILD_COMMON=ON -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_TOOLS=OFF \
    -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_OPENSSL=OFF \
    -DLLAMA_BUILD_IS_DEV=OFF "-DLLAMA_BUILD_COMMIT=$llama_commit" -DLLAMA_BUILD_NUMBER=0
  # The CPU's back end once for each generation of processors, as plug-ins of which the best is taken at run time; each
  # bound to its own symbols, since the base variant is linked as well (below).
  if [[ -n ${FUSIONROUTE_PORTABLE:-} ]]; then
    printf '%s\n' -DGGML_NATIVE=OFF -DGGML_BACKEND_DL=ON -DGGML_CPU_ALL_VARIANTS=ON \
      -DCMAKE_MODULE_LINKER_FLAGS=-Wl,-Bsymbolic
  fi
  # shellcheck disable=SC2086 # several options in one variable
  if [[ -n ${FUSIONROUTE_LLAMA_OPTIONS:-} ]]; then printf '%s\n' $FUSIONROUTE_LLAMA_OPTIONS; fi
}

# What a native build depends on: source, options, this file's recipe, and the compiler with its idea of this CPU.
llama_key() {
  {
    printf '%s\n' "layout 2" "$llama_sha256"
    cat "$llama_patch"
    llama_options
    uname -sm
    "${CXX:-c++}" -march=native -dM -E -x c++ /dev/null 2>/dev/null || "${CXX:-c++}" -mcpu=native -dM -E -x c++ /dev/null
  } | sha256_of | cut -c1-16
}

# pip runs a source distribution's build back end to learn its name, after checking the hash. A stand-in that only
# tells the name spares fetching and running the real one.
write_metadata_backend() { # DIRECTORY
  mkdir -p "$1/scikit_build_core"
  : >"$1/scikit_build_core/__init__.py"
  cat >"$1/scikit_build_core/build.py" <<EOF
import os
def prepare_metadata_for_build_wheel(directory, config_settings=None):
    name = "llama_cpp_python-$llama_version.dist-info"
    os.makedirs(os.path.join(directory, name))
    with open(os.path.join(directory, name, "METADATA"), "w") as file:
        file.write("Metadata-Version: 2.1\nName: llama_cpp_python\nVersion: $llama_version\n")
    return name
def build_wheel(*arguments, **options):
    raise NotImplementedError
EOF
}

fetch_llama() { # STAGE
  say "fetching the source of llama.cpp ($llama_package $llama_version, 77 MB)"
  write_metadata_backend "$1/backend"
  PYTHONPATH=$1/backend fetch_archive "$llama_package" "$llama_version" "$llama_archive" "$llama_sha256" "$1" \
    --no-build-isolation --no-binary "$llama_package" ||
    fail "$exit_unavailable" "could not fetch llama.cpp; without network, put the source distribution" \
      "  $llama_package $llama_version ($llama_archive, sha256 $llama_sha256)" \
      "into $cache/downloads and run this again"
  mkdir "$1/source"
  tar -xzf "$1/$llama_archive" -C "$1/source" --strip-components=3 --exclude='*/.git' \
    "${llama_archive%.tar.gz}/vendor/llama.cpp"
  # The stage may lie inside somebody's git checkout, where paths would be taken for that checkout's.
  GIT_CEILING_DIRECTORIES=$1 git -C "$1/source" apply "$llama_patch" ||
    fail "$exit_internal" "$llama_patch does not fit the source of llama.cpp"
}

run_logged() { # LOG COMMAND...
  local log=$1
  shift
  # A line for every tenth of the files that ninja counts.
  if ! "$@" </dev/null 2>&1 | tee -a "$log" | awk '/^\[[0-9]+\/[0-9]+\]/ {
      split(substr($1, 2), count, /[\/\]]/)
      if (int(10 * count[1] / count[2]) > tenth) {
        tenth = int(10 * count[1] / count[2])
        print "  " count[1] " of " count[2]
        fflush()
      }
    }' >&2; then
    tail -n 30 "$log" >&2
    cp "$log" "$cache/llama-build.log"
    fail "$exit_internal" "building llama.cpp failed (see above; the whole log is $cache/llama-build.log)"
  fi
}

build_llama() { # DESTINATION KEY
  local stage options prefix flags
  stage=$(new_stage)
  prefix=$stage/prefix
  fetch_llama "$stage"
  say "building llama.cpp for this CPU with $(processors) jobs (once; some minutes)"
  mapfile -t options < <(llama_options)
  # The stage may lie inside somebody's git checkout, whose commit is not llama.cpp's.
  export GIT_CEILING_DIRECTORIES=$stage
  # Paths of the stage stay out of the libraries, so that equal sources and options give equal files.
  flags="\"-ffile-prefix-map=$stage/source=llama.cpp\""
  run_logged "$stage/log" env TMPDIR="$stage" cmake -S "$stage/source" -B "$stage/build" -G Ninja "${options[@]}" \
    "-DCMAKE_C_FLAGS=$flags" "-DCMAKE_CXX_FLAGS=$flags" \
    "-DCMAKE_INSTALL_PREFIX=$prefix" -DCMAKE_INSTALL_LIBDIR=lib "-DCMAKE_INSTALL_RPATH=$(loader_origin)" \
    -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON
  run_logged "$stage/log" env TMPDIR="$stage" cmake --build "$stage/build" --parallel "$(processors)"
  run_logged "$stage/log" cmake --install "$stage/build"
  unset GIT_CEILING_DIRECTORIES
  install_common "$stage" "$prefix"
  if [[ -n ${FUSIONROUTE_PORTABLE:-} ]]; then place_variants "$stage" "$prefix"; fi
  check_llama "$prefix/include" "$prefix/lib" "$stage" ||
    fail "$exit_internal" "the llama.cpp just built does not work on this machine (see above)"
  printf '%s\n' "$2" >"$prefix/.fusionroute-build"
  mv "$prefix" "$1"
}

# Plug-ins go beside the libraries, where the runtime looks for them. What calls the CPU's back end directly, as
# training does, is linked to the variant that every processor can run.
place_variants() { # STAGE PREFIX
  local base
  # From the build: where an installation puts plug-ins has changed before.
  find "$1/build" -name 'libggml-cpu-*.so' -exec cp -a {} "$2/lib/" \;
  rm -f "$2"/bin/libggml-cpu-*.so
  for base in "$2"/lib/libggml-cpu-x64.so "$2"/lib/libggml-cpu-armv8.0_1.so; do
    # Under the name of other builds too, so that a program that was linked to one runs.
    if [[ -e $base ]]; then
      ln -s "${base##*/}" "$2/lib/libggml-cpu.so"
      ln -s "${base##*/}" "$2/lib/libggml-cpu.so.0"
    fi
  done
  [[ -e $2/lib/libggml-cpu.so ]] ||
    fail "$exit_unavailable" "llama.cpp has no base variant of its CPU back end for $(uname -m), so there is no portable build"
}

# What llama.cpp does not install by itself: the library and headers of `common`, its Python GGUF package, its licences.
install_common() { # STAGE PREFIX
  local source=$1/source
  find "$1/build" \( -name 'libllama-common.so*' -o -name 'libllama-common*.dylib' \) -exec cp -a {} "$2/lib/" \;
  mkdir -p "$2/include/common" "$2/share/licenses/llama.cpp"
  cp -R "$source"/common/*.h "$source/common/jinja" "$2/include/common/"
  cp -R "$source/vendor" "$2/include/common/vendor"
  cp -R "$source/gguf-py" "$2/"
  cp -R "$source/LICENSE" "$source/licenses" "$2/share/licenses/llama.cpp/"
  # The stage's path must not outlive the stage.
  # shellcheck disable=SC2016 # for pkg-config to expand
  sed -i.old 's|^prefix=.*|prefix=${pcfiledir}/../..|;s|^\(exec_prefix\)=.*|\1=${prefix}|;s|^libdir=.*|libdir=${prefix}/lib|;s|^includedir=.*|includedir=${prefix}/include|' \
    "$2"/lib/pkgconfig/*.pc
  rm -f "$2"/lib/pkgconfig/*.old
}

# shellcheck disable=SC2016 # for the dynamic loader to expand
loader_origin() { if [[ $(uname -s) == Darwin ]]; then printf '@loader_path'; else printf '$ORIGIN'; fi; }

processors() { nproc 2>/dev/null || sysctl -n hw.ncpu; }

# Compiles, links and runs a program that needs what the runtime needs: the API level, not the version number, decides.
check_llama() { # INCLUDE LIB SCRATCH
  cat >"$3/check.cpp" <<'EOF'
#include <cstdio>
#include <ggml-cpu.h>
#include <gguf.h>
#include <llama.h>
#include "jinja/lexer.h"
#include "jinja/parser.h"
#include "jinja/runtime.h"
#include "json-schema-to-grammar.h"
#include "json.h"
int main() {
  llama_backend_init();
  llama_context_params c = llama_context_default_params();
  c.n_seq_max = 2;
  c.kv_unified = false;
  c.swa_full = true;
  c.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
  c.cb_eval = nullptr;
  llama_model_params m = llama_model_default_params();
  m.use_extra_bufts = false;
  llama_model_quantize_params q = llama_model_quantize_default_params();
  q.allow_requantize = true;
  (void)&llama_memory_seq_rm, (void)&llama_memory_seq_cp, (void)&llama_memory_seq_pos_min, (void)&llama_set_adapters_lora;
  (void)&llama_adapter_lora_init, (void)&llama_get_embeddings_ith, (void)&llama_get_logits_ith;
  jinja::lexer lexer;
  (void)lexer;
  const auto schema = common_chat_schema_from_json(common_json::parse("{\"type\":\"null\"}"));
  if (build_grammar([&](const common_grammar_builder &b) { b.add_schema("root", *schema.root); }).empty()) return 1;
  (void)&llama_sampler_init_grammar, (void)&llama_sampler_clone;
  ggml_threadpool_params t = ggml_threadpool_params_default(1);
  ggml_threadpool_free(ggml_threadpool_new(&t));
  std::printf("%s\n", llama_print_system_info());
  llama_backend_free();
  return llama_max_devices() > 0 ? 0 : 1;
}
EOF
  "${CXX:-c++}" -std=c++17 -I"$1" -I"$1/common" -I"$1/common/vendor" "$3/check.cpp" -o "$3/check" -L"$2" \
    -Wl,-rpath,"$2" -lllama-common -lllama -lggml -lggml-base -lggml-cpu >&2 && "$3/check" >/dev/null
}

# FUSIONROUTE_SYSTEM_LLAMA=1: link to what pkg-config finds, if it fits.
use_system_llama() {
  local include lib version stage
  pkg-config --exists llama || fail "$exit_unavailable" "FUSIONROUTE_SYSTEM_LLAMA is set, but pkg-config finds no llama; set PKG_CONFIG_PATH to the directory of its llama.pc"
  include=$(pkg-config --variable=includedir llama)
  lib=$(pkg-config --variable=libdir llama)
  version=$(pkg-config --modversion llama)
  if is_llama "$llama_prefix" "system $version $include $lib"; then return; fi
  lock_cache
  stage=$(new_stage)
  check_llama "$include" "$lib" "$stage" ||
    fail "$exit_unavailable" "the llama.cpp $version in $lib does not fit (see above); it needs the API of $llama_package $llama_version and the headers" \
      "of llama.cpp's common, common/jinja and vendor under $include/common; unset FUSIONROUTE_SYSTEM_LLAMA to build one"
  mkdir "$stage/prefix"
  ln -s "$include" "$stage/prefix/include"
  ln -s "$lib" "$stage/prefix/lib"
  printf 'system %s %s %s\n' "$version" "$include" "$lib" >"$stage/prefix/.fusionroute-build"
  place_llama "$stage/prefix"
  unlock_cache
  say "using llama.cpp $version of $lib"
}

# Copies FROM into the checkout in one rename.
place_llama() { # FROM
  local new=$root/.deps/.new.$$ old=$root/.deps/.old.$$
  mkdir -p "$root/.deps"
  rm -rf "$root"/.deps/.new.* "$root"/.deps/.old.*
  cp -R -P "$1" "$new"
  if [[ -e $llama_prefix || -L $llama_prefix ]]; then mv "$llama_prefix" "$old"; fi
  mv "$new" "$llama_prefix"
  rm -rf "$old"
}

# Whether DIRECTORY holds a llama.cpp made for KEY with all that this checkout needs. An older one may lack a part.
is_llama() { # DIRECTORY KEY
  local header
  [[ $(cat "$1/.fusionroute-build" 2>/dev/null) == "$2" ]] || return 1
  for header in llama.h common/chat.h common/json-schema-to-grammar.h common/json-schema.h common/json.h \
    common/jinja/runtime.h; do
    [[ -f $1/include/$header ]] || return 1
  done
  compgen -G "$1/lib/libllama-common.*" >/dev/null
}

ensure_llama() {
  local key entry
  if [[ -n ${FUSIONROUTE_SYSTEM_LLAMA:-} ]]; then
    use_system_llama
    return
  fi
  key=$(llama_key)
  if is_llama "$llama_prefix" "$key"; then return; fi
  lock_cache
  entry=$cache/llama-$llama_version-$key
  if ! is_llama "$entry" "$key"; then
    rm -rf "$entry"
    build_llama "$entry" "$key"
  fi
  place_llama "$entry"
  unlock_cache
  say "llama.cpp is in place (.deps/llama, from $entry)"
}
