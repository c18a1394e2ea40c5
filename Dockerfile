# The app in a container:
#   docker build -t glass-llama .                                                  for CPUs
#   docker build -t glass-llama-gpu --build-arg REQUIREMENTS=requirements-gpu.txt . for NVIDIA cards (run with --gpus all)
#   docker run -p 7860:7860 -v models:/home/llama/.cache glass-llama
# Settings are environment variables, as `app.py --help` names them.
ARG PYTHON=3.12
FROM python:${PYTHON}-slim-bookworm

ARG REQUIREMENTS=requirements.txt

# Compiles the native kernels below; without it weights are read as float32, slower.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 1000 llama

WORKDIR /app

# Alone, so that this layer of a gigabyte is made again only when the packages change.
COPY requirements.txt requirements-gpu.txt ./
RUN pip install --no-cache-dir -r "${REQUIREMENTS}"

COPY llama_core ./llama_core
COPY web ./web
COPY weights/guide ./weights/guide
COPY app.py LICENSE ./

USER 1000

# What is downloaded and compiled lies in ~/.cache, on a volume if one is mounted there; so the kernels lie beside it.
ENV GLASS_LLAMA_HOST=0.0.0.0 \
    GRADIO_ANALYTICS_ENABLED=False \
    HF_HUB_DISABLE_TELEMETRY=1 \
    PYTHONUNBUFFERED=1
RUN python -c "from llama_core.kernels.build import find_library; find_library()"

EXPOSE 7860

# Compiling the programs of a large model takes minutes; until then /health answers 503.
HEALTHCHECK --interval=15s --timeout=5s --start-period=10m \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/health')"]

CMD ["python", "app.py"]
