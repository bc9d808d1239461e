"""The distribution `seqvae`: the package `modeling_seqvae`, with `configuration/` and the cards' template inside it."""

import ast
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def read_version() -> str:
    """The `__version__` of modeling_seqvae/__init__.py, read without importing it (which would need torch)."""
    source = ROOT / "modeling_seqvae" / "__init__.py"
    for statement in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__version__":
            return str(ast.literal_eval(statement.value))
    raise ValueError(f'{source} must hold a line of the form __version__ = "1.2.3".')


setup(
    name="seqvae",
    version=read_version(),
    description="Sequence VAEs for text with pooled encoders: train, measure, sample, encode, share",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["variational autoencoder", "text", "posterior collapse", "pooling", "latent variables", "transformers"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    # `configuration/` and `model_cards/` are folders of the checkout, and subpackages without code once installed.
    packages=[
        *find_packages(include=["modeling_seqvae", "modeling_seqvae.*"]),
        "modeling_seqvae.configuration",
        "modeling_seqvae.model_cards",
    ],
    package_dir={"modeling_seqvae.configuration": "configuration", "modeling_seqvae.model_cards": "model_cards"},
    package_data={
        "modeling_seqvae": ["py.typed"],
        "modeling_seqvae.explore": ["*.css", "*.js"],
        "modeling_seqvae.configuration": ["**/*.yaml"],
        "modeling_seqvae.model_cards": ["template.md"],
    },
    install_requires=[
        "torch>=2.9",
        "transformers>=5.17,<6",
        "huggingface_hub>=1.31",  # goes on with downloads that were cut
        # transformers 5.17 itself asks for the next two; further down, releases that run beside it.
        "safetensors>=0.8",
        "tokenizers>=0.23.1",
        "accelerate>=1.10",
        "datasets>=4.4",
        "jinja2>=3.1",  # the model cards
        "numpy>=2.0",
        "pandas>=2.2.2",
        "pyarrow>=21",
        "scikit-learn>=1.8",  # before, pandas output lost its index
        "pydantic>=2.10",
        "pyyaml>=6.0",
        "rich>=13.8",
        "tqdm>=4.66.3",
        "typer>=0.19.2",
    ],
    extras_require={
        "explore": ["gradio>=6.31"],  # before, its pages asked other hosts for fonts, or its plots failed
        "figures": ["matplotlib>=3.9"],
        "onnx": ["onnx>=1.20", "onnxruntime>=1.32", "onnxscript>=0.6.2"],
        "sentence-transformers": ["sentence-transformers>=6"],
        "trackers": ["tensorboard>=2.18", "wandb>=0.19"],
        "dev": [
            "build>=1.2.1",
            "fastapi>=0.133",  # examples/serve.py
            "gradio>=6.31",
            "hypothesis>=6.100",
            "mypy>=1.15",
            "parameterized>=0.9",  # transformers' own tests
            "playwright>=1.60",  # drives a browser where there is one
            "pytest>=8.3.2",
            "pytest-xdist>=3.6",
            "ruff>=0.12",
            "setuptools>=77.0.3",
            # the tests read the event files that a run writes
            "tensorboard>=2.18",
            "types-PyYAML",
            "uvicorn>=0.35",
        ],
    },
    entry_points={"console_scripts": ["seqvae = modeling_seqvae.cli:main"]},
)
