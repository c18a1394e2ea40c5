"""The products that a GPU would take, on whatever device the tests run."""

from llama_core.model.linear import ANYWHERE, PRODUCTS

GPU_PRODUCTS = tuple(row._replace(platform=ANYWHERE) for row in PRODUCTS if row.platform in ("cuda", ANYWHERE))
