// llama.cpp behind a pipe: what decoding.py and the tests of GGUF files ask.
//
//     g++ -O2 -std=c++17 llama_cpp.cpp -o llama_cpp -I<llama.cpp>/include -I<llama.cpp>/ggml/include -L<its libraries> -lllama -lggml -lggml-base
//     llama_cpp MODEL.gguf THREADS [DIRECTORY OF BACKENDS]
//
// Each line of stdin is a request, each line of stdout its answer, the first one `ready`:
//
//     ids NEW ID ID ...    NEW tokens after these, each the likeliest, past any that ends a text
//     text TEXT            the tokens of a text, in which \n stands for a new line
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "ggml-backend.h"
#include "llama.h"

static void say(const std::vector<llama_token> & ids) {
    for (size_t i = 0; i < ids.size(); ++i) {
        printf("%s%d", i ? " " : "", ids[i]);
    }
    printf("\n");
    fflush(stdout);
}

static std::vector<llama_token> made(llama_context * context, int n_vocab, size_t count, std::vector<llama_token> ids) {
    llama_memory_clear(llama_get_memory(context), true);
    std::vector<llama_token> found;
    llama_batch batch = llama_batch_get_one(ids.data(), (int) ids.size());
    while (found.size() < count && llama_decode(context, batch) == 0) {
        const float * logits = llama_get_logits_ith(context, -1);
        found.push_back((llama_token) (std::max_element(logits, logits + n_vocab) - logits));
        batch = llama_batch_get_one(&found.back(), 1);
    }
    return found;
}

static std::vector<llama_token> tokens(const llama_vocab * vocab, std::string text) {
    for (size_t at; (at = text.find("\\n")) != std::string::npos;) {
        text.replace(at, 2, "\n");
    }
    std::vector<llama_token> found(text.size() + 2);
    found.resize(llama_tokenize(vocab, text.data(), (int) text.size(), found.data(), (int) found.size(), false, false));
    return found;
}

int main(int argc, char ** argv) {
    if (argc < 3) {
        return 2;
    }
    llama_log_set([](ggml_log_level level, const char * text, void *) { if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr); }, nullptr);
    argc > 3 ? ggml_backend_load_all_from_path(argv[3]) : ggml_backend_load_all();
    llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (model == nullptr) {
        return 1;
    }
    llama_context_params params = llama_context_default_params();
    params.n_ctx = 512;
    params.n_threads = params.n_threads_batch = std::stoi(argv[2]);
    llama_context * context = llama_init_from_model(model, params);
    const llama_vocab * vocab = llama_model_get_vocab(model);
    puts("ready");
    fflush(stdout);
    for (std::string line; std::getline(std::cin, line);) {
        std::istringstream words(line.substr(line.find(' ') + 1));
        if (line.rfind("text ", 0) == 0) {
            say(tokens(vocab, words.str()));
            continue;
        }
        size_t count = 0;
        words >> count;
        std::vector<llama_token> ids;
        for (llama_token id; words >> id;) {
            ids.push_back(id);
        }
        say(made(context, llama_vocab_n_tokens(vocab), count, ids));
    }
    llama_free(context);
    llama_model_free(model);
}
