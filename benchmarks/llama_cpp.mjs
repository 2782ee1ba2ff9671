// llama.cpp behind a pipe, through the npm package node-llama-cpp and the binary that it brings.
//
//     LLAMA_CPP=<directory with node_modules> node llama_cpp.mjs MODEL.gguf THREADS
//
// Each line of stdin is a request, {"ids": [...], "new": N} or {"text": "..."}; each line of stdout its answer: {"ids": [...], "seconds": S},
// made greedily and past every token that ends a text, or {"ids": [...]}, the tokens of the text. The first line says when it is ready.
import {createRequire} from "node:module";
import {createInterface} from "node:readline";
import {pathToFileURL} from "node:url";

const [file, threads] = process.argv.slice(2);
const resolve = createRequire(process.env.LLAMA_CPP + "/").resolve;
const {getLlama} = await import(pathToFileURL(resolve("node-llama-cpp")));
const llama = await getLlama({gpu: false, build: "never", maxThreads: Number(threads), logLevel: "error", skipDownload: true});
const model = await llama.loadModel({modelPath: file, ignoreMemorySafetyChecks: true});
const context = await model.createContext({contextSize: 512, threads: Number(threads), ignoreMemorySafetyChecks: true});
const sequence = context.getSequence();
const say = (answer) => process.stdout.write(JSON.stringify(answer) + "\n");

async function made({ids, new: count}) {
    await sequence.clearHistory();
    const began = performance.now();
    const found = [];
    for await (const token of sequence.evaluate(ids, {temperature: 0, yieldEogToken: true})) {
        found.push(token);
        if (found.length === count)
            break;
    }
    return {ids: found, seconds: (performance.now() - began) / 1000};
}

say({ready: true});
for await (const line of createInterface({input: process.stdin})) {
    const request = JSON.parse(line);
    say(request.text === undefined ? await made(request) : {ids: model.tokenize(request.text, false)});
}
process.exit(0);
